"""The Drive client against the emulator: content goes up and comes down byte by byte."""

from __future__ import annotations

import pytest

from drivefs.drive.google import GoogleDrive
from drivefs.emulator import Running
from drivefs.errors import (
    BadRange,
    BadReply,
    DriveError,
    RemoteNotFound,
    SessionGone,
    Superseded,
    Unreachable,
)
from drivefs.model import (
    Metadata,
    RevisionId,
    UpdateTarget,
)
from tests.contract.client_calls import CHUNK, KIB, MIB, Bytes, blob, md5, read, target, uploaded

# --- small uploads and downloads ---


@pytest.mark.parametrize("size_bytes", [0, 1, 100 * KIB, MIB - 1, MIB, MIB + 1, 5_000_000])
def test_small_upload_comes_back_byte_by_byte(drive: GoogleDrive, size_bytes: int) -> None:
    data = blob(size_bytes)
    file = uploaded(drive, data)
    assert (file.size_bytes, file.md5) == (size_bytes, md5(data))
    assert file.revision is not None
    assert read(drive, file) == data


def test_small_update_keeps_the_id_and_makes_a_revision(drive: GoogleDrive) -> None:
    old = uploaded(drive, b"old content")
    new = drive.upload_small(UpdateTarget(old.id, Metadata()), Bytes(b"new"))
    assert new.id == old.id
    assert new.name == old.name
    assert new.revision != old.revision
    assert read(drive, new) == b"new"
    assert read(drive, old, old.revision) == b"old content"
    assert read(drive, new, new.revision) == b"new"


def test_content_may_hold_what_looks_like_the_body_around_it(drive: GoogleDrive) -> None:
    data = b"\r\n--boundary--\r\n--" * 100
    assert read(drive, uploaded(drive, data)) == data


@pytest.mark.parametrize(("offset", "length"), [(0, 1), (5, 10), (999_990, 10), (123_456, 700_000), (0, 1_000_000)])
def test_download_gives_exactly_the_range(drive: GoogleDrive, offset: int, length: int) -> None:
    data = blob(1_000_000)
    file = uploaded(drive, data)
    assert b"".join(drive.download(file.id, offset, length)) == data[offset : offset + length]
    assert b"".join(drive.download(file.id, offset, length, file.revision)) == data[offset : offset + length]


def test_download_outside_of_the_file_is_told(drive: GoogleDrive) -> None:
    file = uploaded(drive, b"0123456789")
    with pytest.raises(BadRange):
        list(drive.download(file.id, 10, 1))
    with pytest.raises(BadReply):
        list(drive.download(file.id, 5, 10))
    with pytest.raises(RemoteNotFound):
        list(drive.download(file.id, 0, 10, RevisionId("nosuch")))


@pytest.mark.parametrize(("action", "settings"), [("truncate", {"bytes": 100_000}), ("overlong", {"bytes": 10})])
def test_download_of_a_wrong_length_is_never_more_and_never_wrong(
    drive: GoogleDrive, emulator: Running, action: str, settings: dict[str, int]
) -> None:
    data = blob(1_000_000)
    file = uploaded(drive, data)
    emulator.admin.add_fault(action, api="drive.files.get", count=1, **settings)
    received = b""
    try:
        for piece in drive.download(file.id, 0, len(data)):
            received += piece
    except (BadReply, Unreachable):
        assert len(received) < len(data)
    assert data.startswith(received)
    assert read(drive, file) == data


# --- sessions ---


@pytest.mark.parametrize("size_bytes", [0, 1, CHUNK, CHUNK + 1, 7 * MIB + 3])
def test_session_in_one_request(drive: GoogleDrive, size_bytes: int) -> None:
    content = Bytes(blob(size_bytes))
    session = drive.start_session(target(drive, "big", modified_ns=1_000_000_000), size_bytes)
    if size_bytes:  # asking after an empty file would complete it
        assert drive.session_state(session, size_bytes).offset == 0
    state = drive.send(session, content, 0, size_bytes, size_bytes)
    assert state.offset == size_bytes
    assert state.file is not None
    assert (state.file.md5, state.file.modified_ns) == (md5(content.data), 1_000_000_000)
    again = drive.session_state(session, size_bytes)
    assert again.file is not None
    assert again.file.id == state.file.id


def test_session_goes_on_piece_by_piece_and_updates_in_place(drive: GoogleDrive) -> None:
    old = uploaded(drive, b"old")
    content = Bytes(blob(5 * CHUNK + 17))
    session = drive.start_session(UpdateTarget(old.id, Metadata()), content.size_bytes)
    state = drive.send(session, content, 0, 2 * CHUNK, content.size_bytes)
    assert (state.offset, state.file) == (2 * CHUNK, None)
    assert drive.session_state(session, content.size_bytes).offset == 2 * CHUNK
    assert drive.get(old.id).md5 == md5(b"old")
    state = drive.send(session, content, 2 * CHUNK, 3 * CHUNK + 17, content.size_bytes)
    assert state.file is not None
    assert (state.file.id, state.file.md5) == (old.id, md5(content.data))


def test_session_of_an_unknown_size_is_completed_by_its_last_piece(drive: GoogleDrive) -> None:
    content = Bytes(blob(2 * CHUNK + 5))
    session = drive.start_session(target(drive, "stream"), None)
    assert drive.send(session, content, 0, 2 * CHUNK, None).offset == 2 * CHUNK
    state = drive.send(session, content, 2 * CHUNK, 5, content.size_bytes)
    assert state.file is not None
    assert state.file.md5 == md5(content.data)


def test_session_of_an_unknown_size_takes_whole_grains_only(drive: GoogleDrive) -> None:
    session = drive.start_session(target(drive, "grains"), None)
    with pytest.raises(DriveError):
        drive.send(session, Bytes(blob(CHUNK + 1)), 0, CHUNK + 1, None)
    assert drive.send(session, Bytes(blob(CHUNK)), 0, CHUNK, None).offset == CHUNK


def test_session_that_is_ended_is_gone_and_leaves_no_file(drive: GoogleDrive) -> None:
    wanted = target(drive, "ended")
    session = drive.start_session(wanted, None)
    drive.send(session, Bytes(blob(CHUNK)), 0, CHUNK, None)
    for _ in range(2):
        drive.end_session(session)
    with pytest.raises(SessionGone):
        drive.session_state(session, None)
    with pytest.raises(RemoteNotFound):
        drive.get(wanted.id)


def test_session_takes_what_the_server_kept_as_the_truth(drive: GoogleDrive, emulator: Running) -> None:
    content = Bytes(blob(8 * CHUNK))
    session = drive.start_session(target(drive, "partial"), content.size_bytes)
    emulator.admin.add_fault("partial", api="upload.chunk", count=1, bytes=3 * CHUNK)
    offset = drive.send(session, content, 0, content.size_bytes, content.size_bytes).offset
    assert offset < content.size_bytes
    state = drive.send(session, content, offset, content.size_bytes - offset, content.size_bytes)
    assert state.file is not None
    assert state.file.md5 == md5(content.data)


def test_session_cut_in_the_middle_goes_on_where_the_server_is(drive: GoogleDrive, emulator: Running) -> None:
    content = Bytes(blob(8 * MIB))
    session = drive.start_session(target(drive, "cut"), content.size_bytes)
    emulator.admin.add_fault("partial", api="upload.chunk", count=1, bytes=4 * MIB, then="reset")
    with pytest.raises(Unreachable):
        drive.send(session, content, 0, content.size_bytes, content.size_bytes)
    offset = drive.session_state(session, content.size_bytes).offset
    assert offset >= 3 * MIB
    state = drive.send(session, content, offset, content.size_bytes - offset, content.size_bytes)
    assert state.file is not None
    assert state.file.md5 == md5(content.data)


def test_session_whose_last_reply_was_lost_is_complete(drive: GoogleDrive, emulator: Running) -> None:
    content = Bytes(blob(MIB))
    session = drive.start_session(target(drive, "lost reply"), content.size_bytes)
    emulator.admin.add_fault("reset_after", api="upload.chunk", count=1)
    with pytest.raises(Unreachable):
        drive.send(session, content, 0, MIB, MIB)
    state = drive.session_state(session, MIB)
    assert state.file is not None
    assert state.file.md5 == md5(content.data)


def test_session_that_is_forgotten_says_so(drive: GoogleDrive, emulator: Running) -> None:
    content = Bytes(blob(MIB))
    for status in (404, 410):
        session = drive.start_session(target(drive, "expired"), MIB)
        emulator.admin.add_fault("expire_session", api="upload.chunk", count=1, status=status)
        with pytest.raises(SessionGone):
            drive.send(session, content, 0, MIB, MIB)
        with pytest.raises(SessionGone):
            drive.session_state(session, MIB)


def test_session_whose_content_is_taken_back_leaves_no_file(drive: GoogleDrive) -> None:
    wanted = target(drive, "superseded")
    session = drive.start_session(wanted, 8 * MIB)
    with pytest.raises(Superseded):
        drive.send(session, Bytes(blob(8 * MIB), superseded_at=5 * MIB), 0, 8 * MIB, 8 * MIB)
    with pytest.raises(RemoteNotFound):
        drive.get(wanted.id)
    with pytest.raises(Superseded):
        drive.upload_small(target(drive, "superseded"), Bytes(blob(MIB), superseded_at=5))
