"""The emulator's uploads and downloads (drive-api: Uploads)."""

from __future__ import annotations

import hashlib
import os
import socket
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from drivefs.emulator import Options, Running, start
from tests.emulator_support import GRAIN, Api

CONTENT = os.urandom(3 * GRAIN + 1234)
TOTAL = len(CONTENT)


def _range(first: int, last: int, total: int | str = TOTAL) -> str:
    return f"bytes {first}-{last - 1}/{total}"


def _session(api: Api, name: str = "big", size: int | None = TOTAL, **query: str) -> str:
    reply = api.start({"name": name}, size, **query)
    assert (reply.status, reply.data) == (200, b"")
    return str(reply.headers["Location"])


def _md5(data: bytes) -> str:
    return hashlib.md5(data).hexdigest()


def test_a_session_takes_chunks_and_completes(api: Api) -> None:
    session = _session(api, fields="name,size,md5Checksum")
    empty = api.put(session, b"", f"bytes */{TOTAL}")
    assert (empty.status, empty.headers.get("Range")) == (308, None)
    for first in (0, GRAIN):
        reply = api.put(session, CONTENT[first : first + GRAIN], _range(first, first + GRAIN))
        assert (reply.status, reply.headers["Range"]) == (308, f"bytes=0-{first + GRAIN - 1}")
    assert "big" not in api.names("name = 'big'")
    asked = api.put(session, b"", f"bytes */{TOTAL}")
    assert (asked.status, asked.headers["Range"]) == (308, f"bytes=0-{2 * GRAIN - 1}")
    expected = {"name": "big", "size": str(TOTAL), "md5Checksum": _md5(CONTENT)}
    assert api.put(session, CONTENT[2 * GRAIN :], _range(2 * GRAIN, TOTAL)).json == expected
    # Asked again, it says the same, and makes no second file.
    assert api.put(session, b"", f"bytes */{TOTAL}").json == expected
    assert api.names("name = 'big'") == ["big"]


def test_a_session_may_learn_its_total_at_the_end(api: Api) -> None:
    session = _session(api, "unknown", None, fields="md5Checksum")
    assert api.put(session, CONTENT[:GRAIN], _range(0, GRAIN, "*")).status == 308
    assert api.put(session, b"", "bytes */*").headers["Range"] == f"bytes=0-{GRAIN - 1}"
    done = api.put(session, CONTENT[GRAIN:], _range(GRAIN, TOTAL))
    assert done.json == {"md5Checksum": _md5(CONTENT)}


def test_a_total_that_fits_what_is_stored_completes(api: Api) -> None:
    session = _session(api, "exact", None, fields="size")
    assert api.put(session, CONTENT[:GRAIN], _range(0, GRAIN, "*")).status == 308
    assert api.put(session, b"", f"bytes */{GRAIN}").json == {"size": str(GRAIN)}


def test_an_empty_file_and_one_in_a_single_put(api: Api) -> None:
    assert api.put(_session(api, "empty", 0, fields="size"), b"", "bytes */0").json == {"size": "0"}
    assert api.put(_session(api, "whole", fields="size"), CONTENT, None).json == {"size": str(TOTAL)}


@pytest.mark.parametrize(
    ("content_range", "length", "status"),
    [
        (_range(0, 1000), 1000, 400),  # not a multiple of 256 KiB
        (_range(0, 1000, "*"), 1000, 400),
        (_range(GRAIN, 2 * GRAIN), GRAIN, 503),  # past what is stored
        (_range(0, GRAIN), 100, 400),  # a short body
        (_range(0, GRAIN, 5 * TOTAL), GRAIN, 400),  # another total than announced
        ("bytes 0-x/9", 9, 400),
        (f"bytes {TOTAL}-{TOTAL + 5}/{TOTAL}", 6, 400),
    ],
)
def test_wrong_ranges_are_refused_and_store_nothing(api: Api, content_range: str, length: int, status: int) -> None:
    session = _session(api)
    assert api.put(session, CONTENT[:length], content_range).status == status
    assert api.put(session, b"", f"bytes */{TOTAL}").headers.get("Range") is None


def test_bytes_that_are_there_already_are_not_stored_twice(api: Api) -> None:
    session = _session(api, fields="md5Checksum")
    api.put(session, CONTENT[: 2 * GRAIN], _range(0, 2 * GRAIN))
    assert api.put(session, CONTENT[GRAIN:], _range(GRAIN, TOTAL)).json == {"md5Checksum": _md5(CONTENT)}


def test_a_dropped_connection_keeps_the_grains_that_arrived(api: Api, emulator: Running) -> None:
    session = _session(api, "dropped", fields="md5Checksum")
    target = urlsplit(session)
    with socket.create_connection((str(target.hostname), target.port or 0)) as raw:
        head = (
            f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {TOTAL}\r\n"
            f"Content-Range: {_range(0, TOTAL)}\r\n\r\n"
        )
        raw.sendall(head.encode() + CONTENT[: 2 * GRAIN + 99])
        arrived = 0
        while arrived < 2 * GRAIN + 99:
            (arrived,) = [
                entry["received"] for entry in emulator.admin.sessions() if entry["body"]["name"] == "dropped"
            ]
    # The next request waits until the server has noticed the end of the one before.
    asked = api.put(session, b"", f"bytes */{TOTAL}")
    assert (asked.status, asked.headers["Range"]) == (308, f"bytes=0-{2 * GRAIN - 1}")
    rest = api.put(session, CONTENT[2 * GRAIN :], _range(2 * GRAIN, TOTAL))
    assert rest.json == {"md5Checksum": _md5(CONTENT)}


def test_an_unknown_or_expired_session_answers_404(api: Api, emulator: Running) -> None:
    session = _session(api)
    assert api.put(session + "x", b"", f"bytes */{TOTAL}").status == 404
    assert emulator.admin.expire_sessions() >= 1
    assert api.put(session, b"", f"bytes */{TOTAL}").status == 404


def test_sessions_and_files_outlive_the_process(tmp_path: Path) -> None:
    options = Options(directory=tmp_path / "drive")
    first = start(options)
    api = Api(first)
    session = _session(api, fields="md5Checksum")
    api.put(session, CONTENT[: 2 * GRAIN], _range(0, 2 * GRAIN))
    kept = api.file("kept", b"kept")["id"]
    api.close()
    first.stop(kill=True)
    second = start(options)
    try:
        again = Api(second)
        here = session.replace(first.endpoint, second.endpoint)
        assert again.put(here, b"", f"bytes */{TOTAL}").headers["Range"] == f"bytes=0-{2 * GRAIN - 1}"
        done = again.put(here, CONTENT[2 * GRAIN :], _range(2 * GRAIN, TOTAL))
        assert done.json == {"md5Checksum": _md5(CONTENT)}
        assert again.get(f"files/{kept}", alt="media").data == b"kept"
        again.close()
    finally:
        assert second.stop() == 0


def test_an_id_that_is_taken_is_refused_at_the_start_and_at_the_end(api: Api) -> None:
    (file_id,) = api.ids()
    session = api.start({"id": file_id, "name": "late"}, 4).headers["Location"]
    api.ok("POST", "files", {"id": file_id, "name": "early"})
    assert api.put(session, b"late", "bytes 0-3/4").reason == "fileIdInUse"
    assert api.start({"id": file_id, "name": "late"}, 4).reason == "fileIdInUse"


def test_an_update_keeps_the_id_and_makes_a_revision(api: Api) -> None:
    made = api.file("a", b"one")
    session = api.start({"modifiedTime": "2020-01-01T00:00:00.001Z"}, 3, file_id=made["id"], fields="*")
    updated = api.put(session.headers["Location"], b"two", "bytes 0-2/3").json
    assert updated["id"] == made["id"]
    assert updated["headRevisionId"] != made["headRevisionId"]
    assert updated["modifiedTime"] == "2020-01-01T00:00:00.001Z"
    revisions = api.ok("GET", f"files/{made['id']}/revisions", fields="revisions(id,md5Checksum,size)")["revisions"]
    assert [entry["md5Checksum"] for entry in revisions] == [_md5(b"one"), _md5(b"two")]
    old = api.get(f"files/{made['id']}/revisions/{revisions[0]['id']}", alt="media")
    assert old.data == b"one"
    again = api.multipart({}, b"three", file_id=made["id"], fields="size")
    assert again.json == {"size": "5"}


def test_revisions_can_be_kept_and_deleted(api: Api) -> None:
    file_id = api.file("a", b"one")["id"]
    api.multipart({}, b"three", file_id=file_id)
    first, head = [entry["id"] for entry in api.ok("GET", f"files/{file_id}/revisions")["revisions"]]
    kept = api.ok("PATCH", f"files/{file_id}/revisions/{first}", {"keepForever": True}, fields="keepForever")
    assert kept == {"keepForever": True}
    assert api.ok("GET", f"files/{file_id}", fields="quotaBytesUsed") == {"quotaBytesUsed": "8"}
    api.ok("DELETE", f"files/{file_id}/revisions/{head}")
    assert api.get(f"files/{file_id}", alt="media").data == b"one"
    assert api.call("DELETE", f"files/{file_id}/revisions/{first}").status == 403


@pytest.mark.parametrize("size", [0, 1, 70_000, (1 << 20) + 1, 3 << 20])
def test_multipart_uploads_are_exact(api: Api, size: int) -> None:
    # Full of what looks like the closing boundary.
    content = (b"\r\n--mar" * (size // 7 + 1))[:size]
    reply = api.multipart({"name": "m"}, content, "x/y", fields="size,md5Checksum,mimeType")
    assert reply.json == {"size": str(size), "md5Checksum": _md5(content), "mimeType": "x/y"}


def test_media_uploads_have_no_metadata(api: Api) -> None:
    headers = {"Content-Type": "text/csv"}
    reply = api.call(
        "POST", "files", b"1,2", headers, "/upload/drive/v3/", uploadType="media", fields="name,mimeType,size"
    )
    assert reply.json == {"name": "Untitled", "mimeType": "text/csv", "size": "3"}


def test_an_upload_needs_a_type_and_a_form(api: Api) -> None:
    base = "/upload/drive/v3/"
    assert api.call("POST", "files", b"", base=base).status == 400
    assert api.call("POST", "files", b"x", {"Content-Type": "a/b"}, base, uploadType="multipart").status == 400
    broken = {"Content-Type": "multipart/related; boundary=mark"}
    assert api.call("POST", "files", b"--mark\r\n\r\n{}", broken, base, uploadType="multipart").status == 400
    assert api.call("GET", "files", base=base).status == 404


def test_a_limit_on_simple_uploads_can_be_set(tmp_path: Path) -> None:
    emulator = start(Options(directory=tmp_path / "d", simple_upload_limit_bytes=5_000_000))
    try:
        api = Api(emulator)
        assert api.multipart({"name": "fits"}, bytes(4_990_000)).status == 200
        assert api.multipart({"name": "large"}, bytes(5_000_000)).status == 413
        api.close()
    finally:
        emulator.stop()


@pytest.mark.parametrize(
    ("asked", "status", "first", "last"),
    [
        (None, 200, 0, TOTAL),
        ("bytes=0-9", 206, 0, 10),
        ("bytes=100-", 206, 100, TOTAL),
        ("bytes=-7", 206, TOTAL - 7, TOTAL),
        (f"bytes=10-{TOTAL * 2}", 206, 10, TOTAL),
        ("lines=1-2", 200, 0, TOTAL),
    ],
)
def test_downloads_have_ranges(api: Api, asked: str | None, status: int, first: int, last: int) -> None:
    file_id = api.file("d", CONTENT)["id"]
    reply = api.call("GET", f"files/{file_id}", headers={"Range": asked} if asked else {}, alt="media")
    assert (reply.status, reply.data == CONTENT[first:last]) == (status, True)
    if status == 206:
        assert reply.headers["Content-Range"] == f"bytes {first}-{last - 1}/{TOTAL}"


def test_a_range_outside_answers_416(api: Api) -> None:
    file_id = api.file("d", b"abc")["id"]
    reply = api.call("GET", f"files/{file_id}", headers={"Range": "bytes=3-"}, alt="media")
    assert (reply.status, reply.headers["Content-Range"]) == (416, "bytes */3")
    assert api.get(f"files/{api.folder()}", alt="media").reason == "fileNotDownloadable"


def test_expect_100_continue_is_answered(api: Api) -> None:
    target = urlsplit(_session(api))
    with socket.create_connection((str(target.hostname), target.port or 0)) as raw:
        head = f"PUT {target.path}?{target.query} HTTP/1.1\r\nHost: x\r\nContent-Length: {TOTAL}\r\n"
        raw.sendall(head.encode() + b"Expect: 100-continue\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(CONTENT)
        assert raw.recv(100).startswith(b"HTTP/1.1 200")
