"""What an account may do, and a client that may not write at all, over real HTTP."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from drivefs.drive.auth import SCOPES, load_credentials, scopes_to_ask
from drivefs.drive.google import GoogleDrive
from drivefs.emulator import Running
from drivefs.errors import QueueBlocked, Refused
from drivefs.model import CreateTarget, DriveId, Metadata, SessionUri, UpdateTarget
from drivefs.signin.check import granted_scopes
from drivefs.signin.find import find_sign_in
from tests.contract.client_calls import Bytes
from tests.emulator_support import Api


def shared_with_us(other: Api, role: str) -> DriveId:
    file_id = other.file(f"theirs, for a {role}", b"x")["id"]
    body = {"type": "user", "role": role, "emailAddress": "user@example.com"}
    other.ok("POST", f"files/{file_id}/permissions", body, sendNotificationEmail=False)
    return DriveId(file_id)


@pytest.mark.parametrize(("role", "can_edit"), [("reader", False), ("writer", True)])
def test_client_tells_what_of_others_may_be_changed_and_removed(
    drive: GoogleDrive, other: Api, role: str, can_edit: bool
) -> None:
    file = drive.get(shared_with_us(other, role))
    assert (file.can_edit, file.can_trash) == (can_edit, False)


def test_client_may_remove_what_is_its_own(drive: GoogleDrive, api: Api) -> None:
    assert drive.get(DriveId(api.file("mine")["id"])).can_trash


def test_client_tells_that_a_locked_content_may_not_be_changed(drive: GoogleDrive, api: Api) -> None:
    file_id = api.file("locked", b"x")["id"]
    api.ok("PATCH", f"files/{file_id}", {"contentRestrictions": [{"readOnly": True, "reason": "done"}]})
    assert not drive.get(DriveId(file_id)).can_edit


@pytest.mark.parametrize("role", ["reader", "writer"])
def test_client_tells_what_of_others_may_be_copied(drive: GoogleDrive, other: Api, role: str) -> None:
    file_id = shared_with_us(other, role)
    other.ok("PATCH", f"files/{file_id}", {"copyRequiresWriterPermission": True})
    target = CreateTarget(drive.generate_ids(1)[0], drive.root_id(), Metadata(name="copy"))
    may = role == "writer"
    assert drive.get(file_id).can_copy == may
    if may:
        assert drive.copy(file_id, target).md5 == drive.get(file_id).md5
    else:
        with pytest.raises(Refused):
            drive.copy(file_id, target)


def test_read_only_client_sends_nothing_that_writes(emulator: Running, api: Api) -> None:
    file_id = DriveId(api.file("file", b"content")["id"])
    drive = GoogleDrive(load_credentials(emulator.credentials_file), endpoint=emulator.endpoint, read_only=True)
    created = CreateTarget(DriveId("new"), drive.root_id(), Metadata(name="new"))
    session = SessionUri(f"{emulator.endpoint}upload/drive/v3/files?upload_id=x")
    before = emulator.admin.counters()["requests"]
    writes: list[Callable[[], object]] = [
        lambda: drive.generate_ids(1),
        lambda: drive.create(created),
        lambda: drive.update(UpdateTarget(file_id, Metadata(name="renamed"))),
        lambda: drive.trash(file_id),
        lambda: drive.delete(file_id),
        lambda: drive.upload_small(created, Bytes(b"x")),
        lambda: drive.start_session(created, 1),
        lambda: drive.send(session, Bytes(b"x"), 0, 1, 1),
        lambda: drive.session_state(session, 1),
        lambda: drive.end_session(session),
        lambda: drive.copy(file_id, created),
        lambda: drive.explorer().share(file_id, "reader", None),
    ]
    for write in writes:
        with pytest.raises(QueueBlocked, match="read-only"):
            write()
    assert emulator.admin.counters()["requests"] == before
    assert b"".join(drive.download(file_id, 0, 7)) == b"content"
    drive.close()


def test_service_account_of_a_read_only_mount_is_given_no_right_to_write(emulator: Running) -> None:
    file = emulator.admin.service_account()
    emulator.admin.put_file("to be read", b"content")
    found = find_sign_in(file, subject="user@example.com", read_only=True)
    # A client that would write, if Drive let it.
    drive = GoogleDrive(found.credentials, endpoint=emulator.endpoint)
    created = CreateTarget(DriveId("new"), drive.root_id(), Metadata(name="new"))
    (item,) = [file for file in drive.list_children([drive.root_id()]).files if file.name == "to be read"]
    for write in (lambda: drive.create(created), lambda: drive.trash(item.id)):
        with pytest.raises(Refused) as refused:
            write()
        assert refused.value.reason == "insufficientPermissions"
    assert b"".join(drive.download(item.id, 0, 7)) == b"content"
    assert not granted_scopes(found) or not {SCOPES["full"], SCOPES["file"]} & set(granted_scopes(found))
    drive.close()


@pytest.mark.parametrize(
    ("granted", "asked"),
    [
        (None, "readonly"),
        ([SCOPES["full"]], "readonly"),
        ([SCOPES["readonly"]], "readonly"),
        ([SCOPES["file"]], "file"),
    ],
)
def test_scopes_to_ask_of_a_read_only_mount_hold_no_right_to_write_all(granted: list[str] | None, asked: str) -> None:
    assert scopes_to_ask(granted, read_only=True) == [SCOPES[asked]]
    assert scopes_to_ask(granted, read_only=False) == (granted or [SCOPES["full"]])
