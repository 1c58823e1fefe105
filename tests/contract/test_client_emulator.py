"""The Drive client against the emulator: reading, writing, and trouble, over real HTTP."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from drivefs.drive.auth import load_credentials
from drivefs.drive.google import GoogleDrive
from drivefs.emulator import Options, Running, running
from drivefs.errors import (
    IdInUse,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SignInNeeded,
    Unreachable,
)
from drivefs.model import (
    FOLDER_MIME,
    SHORTCUT_MIME,
    CreateTarget,
    DriveId,
    Metadata,
    Priority,
    RemoteFile,
    UpdateTarget,
)
from tests.contract.client_calls import MIB, Bytes, blob, folder, md5, read, target, uploaded

# --- reading ---


def test_about_says_whose_drive_it_is(drive: GoogleDrive) -> None:
    about = drive.about()
    assert about.email == "user@example.com"
    assert about.usage_bytes >= 0


def test_root_id_is_real(drive: GoogleDrive) -> None:
    root = drive.root_id()
    assert root != "root"
    assert drive.get(root).mime_type == FOLDER_MIME
    assert drive.get(root).parent is None


def test_get_of_nothing_is_not_found(drive: GoogleDrive) -> None:
    with pytest.raises(RemoteNotFound):
        drive.get(DriveId("nowhere"))


def test_children_of_many_folders_come_in_one_listing(drive: GoogleDrive, emulator: Running) -> None:
    folders = [folder(drive, f"folder {i}") for i in range(50)]
    files = [
        drive.upload_small(CreateTarget(i, parent, Metadata(name="it's \\ here")), Bytes(b"x"))
        for i, parent in zip(drive.generate_ids(50), folders, strict=True)
    ]
    drive.trash(files[0].id)
    page = drive.list_children(folders)
    assert {f.id: f.parent for f in page.files} == {f.id: f.parent for f in files[1:]}
    assert {f.name for f in page.files} == {"it's \\ here"}
    assert page.next_token is None
    assert not page.incomplete


def test_listing_goes_on_page_by_page(drive: GoogleDrive, emulator: Running) -> None:
    parent = folder(drive, "many")
    for number in range(1005):
        emulator.admin.put_file(f"many/{number}", b"")
    first = drive.list_children([parent])
    assert len(first.files) == 1000
    second = drive.list_children([parent], first.next_token)
    assert second.next_token is None
    assert len({f.id for f in first.files + second.files}) == 1005
    everything = set()
    token: str | None = None
    while True:
        page = drive.list_all(token)
        everything |= {f.id for f in page.files}
        token = page.next_token
        if token is None:
            break
    assert everything >= {f.id for f in first.files + second.files}
    emulator.admin.delete_file("many")


def test_listing_since_names_what_is_new_however_old_its_time(drive: GoogleDrive) -> None:
    file = drive.upload_small(target(drive, "copied", modified_ns=10**18), Bytes(b"x"))
    trashed = uploaded(drive, b"gone")
    drive.trash(trashed.id)
    hour_ns = 3_600 * 10**9
    found = {each.id for each in drive.list_since(file.created_ns - hour_ns).files}
    assert file.id in found and trashed.id not in found
    assert drive.list_since(file.created_ns + hour_ns).files == ()


def test_changes_tell_what_happened_since(drive: GoogleDrive) -> None:
    token = drive.start_page_token()
    kept, gone = uploaded(drive, b"kept"), uploaded(drive, b"gone")
    drive.update(UpdateTarget(kept.id, Metadata(name="renamed")))
    drive.delete(gone.id)
    page = drive.changes(token)
    found = {c.id: c.file for c in page.changes}
    assert found[gone.id] is None
    seen = found[kept.id]
    assert seen is not None
    assert (seen.name, seen.md5) == ("renamed", md5(b"kept"))
    assert page.new_start_token is not None
    assert drive.changes(page.new_start_token).changes == ()


def test_changes_of_an_impossible_token_are_refused(drive: GoogleDrive) -> None:
    with pytest.raises(Refused):
        drive.changes("no such token")


# --- writing ---


def test_generated_ids_are_fresh(drive: GoogleDrive) -> None:
    ids = drive.generate_ids(1000)
    assert len(set(ids)) == 1000
    assert not set(ids) & set(drive.generate_ids(10))


def test_create_twice_with_one_id_says_that_it_is_in_use(drive: GoogleDrive) -> None:
    wanted = target(drive, "once", mime_type=FOLDER_MIME)
    drive.create(wanted)
    with pytest.raises(IdInUse):
        drive.create(wanted)
    small = target(drive, "small")
    drive.upload_small(small, Bytes(b"1"))
    with pytest.raises(IdInUse):
        drive.upload_small(small, Bytes(b"1"))


def test_update_sets_names_times_parents_and_properties(drive: GoogleDrive) -> None:
    file, parent = uploaded(drive, b"content"), folder(drive)
    moved = drive.update(
        UpdateTarget(
            file.id,
            Metadata("näme / \u0001", "text/plain", 1_600_000_000_123_456_789, {"mode": "0755", "x": "y"}),
            add_parent=parent,
            remove_parent=file.parent,
        )
    )
    assert (moved.name, moved.mime_type, moved.parent) == ("näme / \u0001", "text/plain", parent)
    assert moved.modified_ns == 1_600_000_000_123_000_000
    assert dict(moved.app_properties) == {"mode": "0755", "x": "y"}
    assert moved.revision == file.revision
    assert moved.version > file.version
    assert (moved.description, moved.starred) == ("", False)
    told = drive.update(UpdateTarget(file.id, Metadata(description="it's é", starred=True)))
    assert (told.description, told.starred) == ("it's é", True)
    bare = drive.update(UpdateTarget(file.id, Metadata(description="", starred=False)))
    assert (bare.description, bare.starred) == ("", False)
    cut = drive.update(UpdateTarget(file.id, Metadata(app_properties={"x": None})))
    assert dict(cut.app_properties) == {"mode": "0755"}


def test_trash_and_delete_bear_what_is_gone(drive: GoogleDrive) -> None:
    file = uploaded(drive, b"content")
    for _ in range(2):
        drive.trash(file.id)
    assert drive.get(file.id).trashed
    for _ in range(2):
        drive.delete(file.id)
    drive.trash(file.id)
    with pytest.raises(RemoteNotFound):
        drive.get(file.id)


def test_shortcut_shows_its_target(drive: GoogleDrive, emulator: Running) -> None:
    file = uploaded(drive, b"content")
    # Made by hand: drivefs makes none itself yet.
    call = drive._service.set_metadata(target(drive))
    body = {"name": "shortcut", "mimeType": SHORTCUT_MIME, "shortcutDetails": {"targetId": file.id}}
    drive._tell(call, body=json.dumps(body).encode())
    found = [f for f in drive.list_children([drive.root_id()]).files if f.name == "shortcut"]
    assert found[0].shortcut_target == file.id
    assert found[0].size_bytes is None


# --- trouble ---


def test_lost_reply_of_a_create_shows_as_an_id_in_use(drive: GoogleDrive, emulator: Running) -> None:
    wanted = target(drive, "lost")
    emulator.admin.add_fault("reset_after", api="drive.files.create", count=1)
    with pytest.raises(Unreachable):
        drive.upload_small(wanted, Bytes(b"data"))
    with pytest.raises(IdInUse):
        drive.upload_small(wanted, Bytes(b"data"))
    assert drive.get(wanted.id).md5 == md5(b"data")


def test_reading_outlives_faults_of_the_server(drive: GoogleDrive, emulator: Running) -> None:
    file = uploaded(drive, b"data")
    for action, more in (("error", {"status": 503}), ("reset_before", {}), ("error", {"status": 429})):
        emulator.admin.add_fault(action, api="drive.files.get", count=1, **more)
        assert drive.get(file.id).id == file.id


def test_writing_tells_of_faults_of_the_server(drive: GoogleDrive, emulator: Running) -> None:
    emulator.admin.add_fault("error_after", api="drive.files.create", count=1, status=500)
    with pytest.raises(ServerFault):
        folder(drive)


def test_full_drive_blocks_the_queue(drive: GoogleDrive, emulator: Running) -> None:
    emulator.admin.set_quota(storage_bytes=1)
    with pytest.raises(QueueBlocked) as caught:
        uploaded(drive, b"too much")
    assert caught.value.reason == "storageQuotaExceeded"


def test_rate_limit_is_waited_out(drive: GoogleDrive, emulator: Running) -> None:
    emulator.admin.add_fault("error", api="drive.files.create", count=1, status=403, reason="userRateLimitExceeded")
    assert uploaded(drive, b"data").md5 == md5(b"data")
    emulator.admin.add_fault("error", api="drive.files.create", status=403, reason="userRateLimitExceeded")
    with pytest.raises(RateLimited):
        uploaded(drive, b"data")


def test_expired_tokens_are_renewed_under_many_threads(emulator: Running) -> None:
    drive = GoogleDrive(load_credentials(emulator.credentials_file), endpoint=emulator.endpoint)
    drive.root_id()
    emulator.admin.expire_tokens()
    errors: list[BaseException] = []

    def about() -> None:
        try:
            drive.about()
        except BaseException as e:
            errors.append(e)
            raise

    threads = [threading.Thread(target=about) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    drive.close()
    assert errors == []


def test_revoked_sign_in_says_so() -> None:
    with running(Options()) as emulator:
        drive = GoogleDrive(load_credentials(emulator.credentials_file), endpoint=emulator.endpoint)
        drive.about()
        emulator.admin.revoke_tokens()
        with pytest.raises(SignInNeeded, match="invalid_grant"):
            drive.about()
        drive.close()


def test_service_account_signs_in(emulator: Running) -> None:
    drive = GoogleDrive(load_credentials(Path(emulator.admin.service_account())), endpoint=emulator.endpoint)
    assert drive.about().email
    drive.close()


def test_endpoint_that_does_not_answer_is_unreachable() -> None:
    with running(Options()) as emulator:
        credentials, endpoint = load_credentials(emulator.credentials_file), emulator.endpoint
    drive = GoogleDrive(credentials, endpoint=endpoint, patience_s=0)
    with pytest.raises(Unreachable):
        drive.about()
    drive.close()


def test_google_itself_is_reached_through_a_proxy_and_tls(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without an endpoint: the emulator's proxy stands in for www.googleapis.com."""
    with running(Options(proxy_port=0)) as emulator:
        monkeypatch.setenv("https_proxy", emulator.proxy)
        monkeypatch.setenv("SSL_CERT_FILE", str(emulator.ca_file))
        for name in ("no_proxy", "NO_PROXY"):
            monkeypatch.delenv(name, raising=False)
        drive = GoogleDrive(load_credentials(emulator.credentials_file), stall_timeout_s=10, patience_s=0)
        data = blob(3 * MIB)
        assert read(drive, uploaded(drive, data)) == data
        session = drive.start_session(target(drive, "big"), len(data))
        assert session.startswith("https://www.googleapis.com/upload/drive/v3/files?")
        state = drive.send(session, Bytes(data), 0, len(data), len(data))
        assert state.file is not None
        assert state.file.md5 == md5(data)
        drive.close()


def test_many_small_creates_by_many_threads(drive: GoogleDrive, emulator: Running) -> None:
    parent = folder(drive, "crowd")
    ids = iter(drive.generate_ids(200))
    lock = threading.Lock()
    files: list[RemoteFile] = []

    def work() -> None:
        while True:
            with lock:
                file_id = next(ids, None)
            if file_id is None:
                return
            wanted = CreateTarget(file_id, parent, Metadata(name=file_id))
            file = drive.at(Priority.PUBLISH).upload_small(wanted, Bytes(file_id.encode() * 100))
            with lock:
                files.append(file)

    threads = [threading.Thread(target=work) for _ in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(files) == 200
    assert all(f.md5 == md5(f.id.encode() * 100) for f in files)
    assert len(drive.list_children([parent]).files) == 200
