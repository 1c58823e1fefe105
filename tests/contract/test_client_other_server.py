"""The Drive client against a server of the API that is not our emulator, in each of its methods."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from drivefs.drive.auth import load_credentials
from drivefs.drive.google import GoogleDrive
from drivefs.errors import BadRange, IdInUse, RateLimited, Refused, RemoteNotFound, ServerFault, SessionGone
from drivefs.model import (
    FOLDER_MIME,
    Change,
    CreateTarget,
    DriveId,
    Metadata,
    RevisionId,
    SessionState,
    SessionUri,
    UpdateTarget,
)
from tests.contract.client_calls import CHUNK, MIB, Bytes, blob, folder, md5, read, target, uploaded
from tests.other_server import OtherServer
from tests.other_server_wire import Habits, Refusal

Connect = Callable[[OtherServer], GoogleDrive]


@pytest.fixture
def connect(tmp_path: Path) -> Iterator[Connect]:
    """Makes a client of a server; its pauses are short."""
    made: list[GoogleDrive] = []

    def connect(server: OtherServer) -> GoogleDrive:
        path = tmp_path / f"credentials-{len(made)}.json"
        path.write_text(json.dumps(server.credentials))
        credentials = load_credentials(path)
        drive = GoogleDrive(
            credentials, endpoint=server.endpoint, stall_timeout_s=10, patience_s=6, random=lambda: 0.0
        )
        made.append(drive)
        return drive

    yield connect
    for drive in made:
        drive.close()


@pytest.fixture
def server() -> Iterator[OtherServer]:
    with OtherServer(Habits(feed_lag_s=0.2)) as server:
        yield server


@pytest.fixture
def drive(server: OtherServer, connect: Connect) -> GoogleDrive:
    return connect(server)


def send_all(drive: GoogleDrive, session: SessionUri, data: bytes, step: int = MIB) -> tuple[SessionState, int]:
    """Sends from where the server has come to, until it is done; the number of requests too."""
    state, requests = drive.session_state(session, len(data)), 0
    while state.file is None:
        length = min(step, len(data) - state.offset)
        state = drive.send(session, Bytes(data), state.offset, length, len(data))
        requests += 1
        assert requests < 100
    return state, requests


def all_changes(drive: GoogleDrive, token: str) -> tuple[list[Change], str]:
    found: list[Change] = []
    while True:
        page = drive.changes(token)
        found += page.changes
        if page.new_start_token is not None:
            assert page.next_token is None
            return found, page.new_start_token
        assert page.next_token is not None
        token = page.next_token


# --- reading ---


def test_about_without_a_limit_is_unlimited(drive: GoogleDrive) -> None:
    about = drive.about()
    assert (about.email, about.limit_bytes, about.usage_bytes) == ("someone@example.org", None, 0)


def test_root_id_is_real(drive: GoogleDrive, server: OtherServer) -> None:
    assert drive.root_id() == server.root
    assert drive.get(drive.root_id()).parent is None


def test_get_takes_what_is_there_and_bears_what_is_not(drive: GoogleDrive, server: OtherServer) -> None:
    for number in range(12):
        file = drive.get(DriveId(server.put(f"it's \\ {number}", b"abc")))
        assert (file.name, file.size_bytes, file.md5, file.parent) == (
            f"it's \\ {number}",
            3,
            md5(b"abc"),
            server.root,
        )
        assert (file.trashed, file.can_edit, file.owned_by_me) == (False, True, True)
        assert file.revision
    with pytest.raises(RemoteNotFound):
        drive.get(DriveId("1nowhere"))


def test_listings_go_on_through_short_pages(drive: GoogleDrive, server: OtherServer) -> None:
    folders = [DriveId(server.put(f"folder {number}", None)) for number in range(50)]
    wanted = {server.put(f"{number}", b"x", folders[number % 50]) for number in range(100)}
    found, token = [], None
    for _ in range(4):
        page = drive.list_children(folders, token)
        found += [file.id for file in page.files]
        token = page.next_token
        if token is None:
            break
    assert set(found) == wanted
    assert len(found) == 100
    time.sleep(0.25)  # a flat listing lags behind
    for choice, number in ((None, 150), (True, 50), (False, 100)):
        pages = [drive.list_all(folders=choice)]
        while pages[-1].next_token is not None:
            pages.append(drive.list_all(pages[-1].next_token, folders=choice))
        assert sum(len(page.files) for page in pages) == number
        assert not any(page.incomplete for page in pages)


def test_listing_since_names_what_is_new(drive: GoogleDrive, server: OtherServer) -> None:
    made = server.put("new", b"x")
    created_ns = drive.get(DriveId(made)).created_ns
    time.sleep(0.25)  # a flat listing lags behind
    hour_ns = 3_600 * 10**9
    pages = [drive.list_since(created_ns - hour_ns)]
    while pages[-1].next_token is not None:
        pages.append(drive.list_since(created_ns - hour_ns, pages[-1].next_token))
    assert made in {file.id for page in pages for file in page.files}
    assert drive.list_since(created_ns + hour_ns).files == ()


def test_changes_lag_and_repeat_and_end(drive: GoogleDrive, server: OtherServer) -> None:
    token = drive.start_page_token()
    made = [server.put(f"{number}", b"x") for number in range(60)]
    server.remove(made[0])
    seen: dict[DriveId, Change] = {}
    end_s = time.monotonic() + 5
    while not set(made) <= set(seen) or seen[DriveId(made[0])].file is not None:
        assert time.monotonic() < end_s
        changes, token = all_changes(drive, token)
        seen |= {change.id: change for change in changes}
    assert all(seen[DriveId(file_id)].file is not None for file_id in made[1:])
    with pytest.raises(Refused):
        drive.changes("not-a-token")


def test_downloads_are_the_range_that_was_asked_for(drive: GoogleDrive, server: OtherServer) -> None:
    data = blob(3 * MIB + 5)
    file_id = DriveId(server.put("data", data))
    for offset, length in ((0, len(data)), (1, 1), (MIB, 2 * MIB), (len(data) - 1, 1)):
        for _ in range(3):  # whole, in chunks, on a connection that closes
            assert b"".join(drive.download(file_id, offset, length)) == data[offset : offset + length]
    with pytest.raises(BadRange):
        list(drive.download(file_id, len(data), 1))


def test_revisions_have_their_own_bytes(drive: GoogleDrive, server: OtherServer) -> None:
    file_id = DriveId(server.put("data", b"0"))
    for number in range(1, 50):
        server.edit(file_id, str(number).encode())
    revisions = drive.revisions(file_id)
    assert [revision.md5 for revision in revisions] == [md5(str(number).encode()) for number in range(50)]
    assert revisions[-1].id == drive.get(file_id).revision
    assert b"".join(drive.download(file_id, 0, 1, revisions[3].id)) == b"3"
    with pytest.raises(RemoteNotFound):
        list(drive.download(file_id, 0, 1, RevisionId("0Bnone")))


# --- writing ---


def test_create_with_an_id_works_once(drive: GoogleDrive, server: OtherServer) -> None:
    wanted = target(drive, "dir", mime_type=FOLDER_MIME)
    assert drive.create(wanted).id == wanted.id
    with pytest.raises(IdInUse):
        drive.create(wanted)
    assert server.tree() == {"dir": (FOLDER_MIME, None)}


def test_generated_ids_are_as_many_as_asked_for(drive: GoogleDrive) -> None:
    assert len(set(drive.generate_ids(1000))) == 1000


def test_update_moves_renames_and_dates(drive: GoogleDrive, server: OtherServer) -> None:
    file = uploaded(drive, b"abc", "old")
    place = folder(drive)
    metadata = Metadata(name="new", modified_ns=1_600_000_000_123_999_999, app_properties={"a": "1", "b": "2"})
    moved = drive.update(UpdateTarget(file.id, metadata, place, server.root))
    assert (moved.name, moved.parent, moved.modified_ns) == ("new", place, 1_600_000_000_123_000_000)
    assert (moved.revision, moved.created_ns) == (file.revision, file.created_ns)
    assert moved.version > file.version
    told = drive.update(UpdateTarget(file.id, Metadata(description="it's é", starred=True)))
    assert (told.description, told.starred) == ("it's é", True)
    cleared = drive.update(UpdateTarget(file.id, Metadata(app_properties={"a": None})))
    assert (cleared.app_properties, cleared.modified_ns) == ({"b": "2"}, moved.modified_ns)


def test_trash_and_delete_may_be_repeated(drive: GoogleDrive, server: OtherServer) -> None:
    file = uploaded(drive, b"abc")
    for _ in range(2):
        drive.trash(file.id)
    assert drive.get(file.id).trashed
    assert server.tree() == {}
    for _ in range(2):
        drive.delete(file.id)
    drive.trash(file.id)
    with pytest.raises(RemoteNotFound):
        drive.get(file.id)


# --- uploading ---


@pytest.mark.parametrize("data", [b"", b"\r\n--==\r\n\r\nx\r\n", blob(MIB)], ids=["empty", "line ends", "1 MiB"])
def test_small_uploads_create_and_update(data: bytes, drive: GoogleDrive, server: OtherServer) -> None:
    created = drive.upload_small(target(drive, "name", modified_ns=1_500_000_000_000_000_000), Bytes(data))
    assert (created.md5, created.size_bytes) == (md5(data), len(data))
    assert created.modified_ns == 1_500_000_000_000_000_000
    assert read(drive, created) == data
    updated = drive.upload_small(UpdateTarget(created.id, Metadata()), Bytes(data + b"!"))
    assert (updated.id, updated.md5, updated.name) == (created.id, md5(data + b"!"), "name")
    assert updated.revision not in (None, created.revision)
    assert len(drive.revisions(created.id)) == 2


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK, 8 * CHUNK, 5 * MIB + 1])
def test_sessions_go_on_from_what_the_server_kept(size_bytes: int, drive: GoogleDrive, server: OtherServer) -> None:
    data = blob(size_bytes)
    session = drive.start_session(target(drive, "big"), size_bytes)
    state, _ = send_all(drive, session, data)
    assert state.file is not None
    assert (state.file.md5, state.file.size_bytes) == (md5(data), size_bytes)
    again = drive.session_state(session, size_bytes)
    assert again.file is not None
    assert again.file.id == state.file.id
    update = drive.start_session(UpdateTarget(state.file.id, Metadata()), size_bytes + 1)
    state, _ = send_all(drive, update, data + b"!")
    assert state.file is not None
    assert server.tree()["big"][1] == md5(data + b"!")


def test_session_of_unknown_size_ends_when_told(connect: Connect) -> None:
    data = blob(3 * CHUNK + 7)
    with OtherServer(Habits(kept_short_share=0.0)) as server:
        drive = connect(server)
        session = drive.start_session(target(drive, "stream"), None)
        assert drive.session_state(session, None).offset == 0
        state = drive.send(session, Bytes(data), 0, 3 * CHUNK, None)
        assert (state.offset, state.file) == (3 * CHUNK, None)
        state = drive.send(session, Bytes(data), 3 * CHUNK, 7, len(data))
        assert state.file is not None
        assert state.file.md5 == md5(data)


def test_session_that_is_ended_is_gone(drive: GoogleDrive) -> None:
    session = drive.start_session(target(drive, "ended"), None)
    for _ in range(2):
        drive.end_session(session)
    with pytest.raises(SessionGone):
        drive.session_state(session, None)


def test_session_that_is_gone_says_so(drive: GoogleDrive, server: OtherServer) -> None:
    session = drive.start_session(target(drive, "big"), MIB)
    server.sessions.clear()
    with pytest.raises(SessionGone):
        drive.session_state(session, MIB)
    with pytest.raises(SessionGone):
        drive.send(session, Bytes(blob(MIB)), 0, MIB, MIB)


# --- trouble ---


def test_expired_token_is_renewed_in_between(drive: GoogleDrive, server: OtherServer) -> None:
    file = uploaded(drive, b"abc")
    server.expire_tokens()
    assert read(drive, file) == b"abc"
    server.expire_tokens()
    assert drive.upload_small(UpdateTarget(file.id, Metadata()), Bytes(b"abcd")).size_bytes == 4
    assert server.requests.count(("POST", "/signin/renew")) == 3


def test_create_whose_reply_was_lost_is_found_by_its_id(drive: GoogleDrive, server: OtherServer) -> None:
    wanted = target(drive, "once")
    server.fail_next("POST", "/upload", Refusal(500, "internalError"), after=True)
    with pytest.raises(ServerFault):
        drive.upload_small(wanted, Bytes(b"abc"))
    with pytest.raises(IdInUse):
        drive.upload_small(wanted, Bytes(b"abc"))
    assert drive.get(wanted.id).md5 == md5(b"abc")
    assert list(server.tree()) == ["once"]


@pytest.mark.parametrize("headers", [{}, {"Retry-After": "1"}], ids=["bare", "retry-after"])
def test_rate_limit_is_waited_for(headers: dict[str, str], drive: GoogleDrive, server: OtherServer) -> None:
    wanted = target(drive, "later")
    server.fail_next("POST", "/upload", Refusal(403, "userRateLimitExceeded", **headers))
    assert drive.upload_small(wanted, Bytes(b"abc")).id == wanted.id


def test_all_works_on_a_bad_day(connect: Connect) -> None:
    with OtherServer(Habits(seed=7, close_share=0.5, fault_share=0.05, rate_limit_share=0.03)) as server:
        drive = connect(server)
        ids = drive.generate_ids(20)
        for number, file_id in enumerate(ids):
            wanted = CreateTarget(file_id, drive.root_id(), Metadata(name=str(number)))
            for _ in range(5):
                try:
                    drive.upload_small(wanted, Bytes(str(number).encode()))
                except (ServerFault, RateLimited):
                    continue
                except IdInUse:
                    break
                break
        assert {name: facts[1] for name, facts in server.tree().items()} == {
            str(number): md5(str(number).encode()) for number in range(20)
        }


def test_connections_dropped_at_rest_are_made_anew(connect: Connect) -> None:
    with OtherServer(Habits(idle_s=0.05)) as server:
        drive = connect(server)
        wanted = target(drive, "after a rest")
        for _ in range(3):
            time.sleep(0.15)  # what is waited for is the server's own time-out, which nothing shows
            assert drive.about().email
        time.sleep(0.15)
        assert drive.upload_small(wanted, Bytes(b"abc")).id == wanted.id
