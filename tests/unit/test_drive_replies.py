"""drivefs.drive.replies: what Drive says becomes records and errors, whatever it says."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from drivefs.drive import replies
from drivefs.drive.error_replies import Asked, error_of
from drivefs.errors import (
    BadRange,
    BadReply,
    DriveError,
    IdInUse,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SessionGone,
)
from drivefs.model import FOLDER_MIME, RemoteFile
from tests.unit.scripted_server import error_body

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


def error(status: int, reason: str | None, asked: Asked = Asked.CALL, **headers: str) -> DriveError:
    body = b"" if reason is None else json.dumps(error_body(status, reason)).encode()
    return error_of(status, headers, body, asked, now=lambda: NOW)


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (403, "rateLimitExceeded", RateLimited),
        (403, "userRateLimitExceeded", RateLimited),
        (429, "rateLimitExceeded", RateLimited),
        (429, None, RateLimited),
        (500, None, ServerFault),
        (500, "backendError", ServerFault),
        (502, None, ServerFault),
        (503, "anythingElse", ServerFault),
        (403, "dailyLimitExceeded", QueueBlocked),
        (403, "storageQuotaExceeded", QueueBlocked),
        (403, "quotaExceeded", QueueBlocked),
        (403, "downloadQuotaExceeded", QueueBlocked),
        (403, "activeItemCreationLimitExceeded", QueueBlocked),
        (403, "numChildrenInNonRootLimitExceeded", QueueBlocked),
        (403, "teamDriveFileLimitExceeded", QueueBlocked),
        (403, "myDriveHierarchyDepthLimitExceeded", QueueBlocked),
        (403, "teamDriveHierarchyTooDeep", QueueBlocked),
        (403, "insufficientFilePermissions", Refused),
        (403, "appNotAuthorizedToFile", Refused),
        (403, "domainPolicy", Refused),
        (403, "cannotDownloadAbusiveFile", Refused),
        (403, "fileNotDownloadable", Refused),
        (403, "exportSizeLimitExceeded", Refused),
        (403, "fileNotExportable", Refused),
        (403, "teamDrivesFolderMoveInNotSupported", Refused),
        (403, "accessNotConfigured", Refused),
        (403, "aReasonOfTomorrow", Refused),
        (403, None, Refused),
        (400, "badRequest", Refused),
        (400, "invalid", Refused),
        (404, "notFound", RemoteNotFound),
        (404, None, RemoteNotFound),
        (410, None, RemoteNotFound),
        (409, "fileIdInUse", IdInUse),
        (409, None, IdInUse),
        (416, "requestedRangeNotSatisfiable", BadRange),
        (302, None, BadReply),
        (204, None, BadReply),
    ],
)
def test_errors_are_told_by_reason_then_by_status(status: int, reason: str | None, kind: type[DriveError]) -> None:
    result = error(status, reason)
    assert type(result) is kind
    assert result.status == status
    assert result.reason == (reason or "")


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "notFound", SessionGone),
        (404, None, SessionGone),
        (410, None, SessionGone),
        (400, "badRequest", SessionGone),
        (400, None, SessionGone),
        (412, None, SessionGone),
        (403, None, SessionGone),
        (403, "userRateLimitExceeded", RateLimited),
        (429, None, RateLimited),
        (403, "storageQuotaExceeded", QueueBlocked),
        (403, "insufficientFilePermissions", Refused),
        (409, "fileIdInUse", IdInUse),
        (503, None, ServerFault),
        (200 + 4, None, BadReply),
    ],
)
def test_errors_of_a_session_end_it_only_where_a_new_one_would_help(
    status: int, reason: str | None, kind: type[DriveError]
) -> None:
    assert type(error(status, reason, Asked.SESSION)) is kind


def test_errors_of_a_session_never_quote_the_server() -> None:
    body = json.dumps({"error": {"errors": [], "message": "no session https://x/?upload_id=SECRET"}}).encode()
    assert "SECRET" not in str(error_of(404, {}, body, Asked.SESSION))
    assert "no session" in str(error_of(404, {}, body))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"<html>",
        b"[]",
        b"null",
        b"\xff",
        b"[" * 10**5,
        b'{"error": "invalid"}',
        b'{"error": {"errors": 5}}',
        b'{"error": {"errors": [null]}}',
        b'{"error": {"errors": [{"reason": 7}], "message": ["x"]}}',
    ],
)
def test_errors_survive_a_body_that_is_no_error(body: bytes) -> None:
    result = error_of(403, {}, body)
    assert type(result) is Refused
    assert result.reason == ""


def test_errors_are_one_line_of_bounded_length() -> None:
    body = json.dumps({"error": {"message": "a\nb\x1b[31m\ud800" + "x" * 10**6}}).encode()
    message = str(error_of(500, {}, body))
    assert message.isprintable()
    assert len(message) < 300


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        ("17", 17.0),
        (" 3 ", 3.0),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0),
        ("Fri, 02 Jan 2026 03:00:00 GMT", 0.0),
        ("999999999", 3600.0),
        ("Fri, 02 Jan 2099 03:00:00 GMT", 3600.0),
        ("soon", None),
        ("-5", None),
        ("1.5", None),
    ],
)
def test_rate_limit_tells_when_to_come_back(value: str, expected_s: float | None) -> None:
    result = error(429, None, **{"Retry-After": value})
    assert isinstance(result, RateLimited)
    assert result.retry_after_s == expected_s


def test_file_is_read_in_full() -> None:
    assert replies.read_file(
        {
            "id": "F",
            "name": "a/b",
            "mimeType": "text/plain",
            "parents": ["P"],
            "trashed": True,
            "version": "12",
            "modifiedTime": "2026-01-02T03:04:05.678Z",
            "createdTime": "2026-01-02T03:04:05Z",
            "size": "9007199254740993",
            "md5Checksum": "D41D8CD98F00B204E9800998ECF8427E",
            "headRevisionId": "R",
            "appProperties": {"k": "v", "odd": 5},
            "webViewLink": "https://x/",
            "capabilities": {"canEdit": False},
            "ownedByMe": False,
        }
    ) == RemoteFile(
        id="F",  # type: ignore[arg-type]
        name="a/b",
        mime_type="text/plain",
        parent="P",  # type: ignore[arg-type]
        trashed=True,
        version=12,
        modified_ns=1767323045678000000,
        created_ns=1767323045000000000,
        size_bytes=9007199254740993,
        md5="d41d8cd98f00b204e9800998ecf8427e",
        revision="R",  # type: ignore[arg-type]
        app_properties={"k": "v"},
        web_view_link="https://x/",
        can_edit=False,
        owned_by_me=False,
        put_into_trash=True,
    )


def test_file_needs_nothing_but_an_id() -> None:
    file = replies.read_file({"id": "F"})
    assert (file.name, file.parent, file.size_bytes, file.md5, file.revision) == ("", None, None, None, None)
    assert (file.trashed, file.can_edit, file.owned_by_me, file.modified_ns) == (False, True, True, 0)


@pytest.mark.parametrize(("kind", "has_content"), [("folder", False), ("shortcut", False), ("document", True)])
def test_document_is_told_apart_by_its_time_and_what_has_no_content_by_nothing(kind: str, has_content: bool) -> None:
    value = {"id": "1", "mimeType": f"application/vnd.google-apps.{kind}"}
    read = [replies.read_file({**value, "modifiedTime": f"2026-01-0{day}T00:00:00Z"}).revision for day in (1, 2)]
    assert (read[0] is not None, read[0] != read[1]) == (has_content, has_content)


def test_file_without_a_head_revision_is_told_apart_by_its_md5() -> None:
    one, other = ({"id": "F", "md5Checksum": digit * 32} for digit in "AB")
    revision = replies.read_file(one).revision
    assert revision is not None
    assert revision == replies.read_file(one).revision != replies.read_file(other).revision
    assert replies.is_stand_in(revision)
    named = replies.read_file({**one, "headRevisionId": "R"}).revision
    assert named == "R"
    assert not replies.is_stand_in(named)


def test_file_without_bytes_of_its_own_has_no_size() -> None:
    assert replies.read_file({"id": "F", "mimeType": FOLDER_MIME, "size": "0"}).size_bytes is None
    shortcut = {"id": "S", "mimeType": "application/vnd.google-apps.shortcut", "shortcutDetails": {"targetId": "T"}}
    assert replies.read_file(shortcut).shortcut_target == "T"


def test_file_with_a_name_that_utf8_cannot_spell_is_readable() -> None:
    file = replies.read_file(json.loads('{"id": "F", "name": "a\\ud800b", "appProperties": {"\\udfff": "\\ud800"}}'))
    assert file.name == "a?b"
    assert dict(file.app_properties) == {"?": "?"}


@pytest.mark.parametrize("identifier", [None, 5, "", [], "\ud800"])
def test_file_without_an_id_is_a_bad_reply(identifier: object) -> None:
    with pytest.raises(BadReply):
        replies.read_file({"id": identifier, "name": "n"})


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(alphabet=st.characters(codec=None)),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.sampled_from([f.split("/")[0] for f in replies.FILE_FIELDS.split(",") if f != "id"]), JSON))
def test_file_of_any_odd_values_is_read(value: dict[str, Any]) -> None:
    file = replies.read_file({**value, "id": "F"})
    assert file.size_bytes is None or file.size_bytes >= 0
    file.name.encode()


@given(JSON)
def test_readers_answer_any_json_with_a_record_or_a_bad_reply(value: object) -> None:
    body = json.dumps(value).encode()
    for read in (
        replies.read_page,
        replies.read_changes,
        replies.read_about,
        lambda v: replies.read_ids(v, 1),
        replies.read_file,
    ):
        try:
            read(replies.read_json(body))
        except BadReply:
            continue


@pytest.mark.parametrize("body", [b"", b"{", b"\xff\xfe", b"<html>", b"[1]", b"5", b"[" * 10**5])
def test_reply_that_is_no_object_is_a_bad_reply(body: bytes) -> None:
    with pytest.raises(BadReply):
        replies.read_json(body)


def test_changes_tell_gone_from_changed_and_leave_out_shared_drives() -> None:
    page = replies.read_changes(
        {
            "newStartPageToken": "9",
            "changes": [
                {"fileId": "A", "removed": True},
                {"fileId": "B", "file": {"id": "B", "name": "b"}},
                {"fileId": "C", "removed": False},
                {"changeType": "drive", "driveId": "D"},
            ],
        }
    )
    assert [(c.id, c.file.name if c.file else None) for c in page.changes] == [("A", None), ("B", "b"), ("C", None)]
    assert (page.next_token, page.new_start_token) == (None, "9")


def test_changes_have_exactly_one_token() -> None:
    page = replies.read_changes({"nextPageToken": "1", "newStartPageToken": "9"})
    assert (page.next_token, page.new_start_token) == ("1", None)
    with pytest.raises(BadReply):
        replies.read_changes({"changes": []})


@pytest.mark.parametrize("ids", [[], ["a"], ["a", "a"], ["a", "b", "c"], "ab", None])
def test_ids_are_as_many_as_asked_for_and_differ(ids: object) -> None:
    with pytest.raises(BadReply):
        replies.read_ids({"ids": ids}, 2)


def test_about_without_a_limit_is_unlimited() -> None:
    about = replies.read_about({"user": {"emailAddress": "a@b"}, "storageQuota": {"usage": "5"}})
    assert (about.email, about.limit_bytes, about.usage_bytes) == ("a@b", None, 5)


@pytest.mark.parametrize(
    ("header", "stored"), [(None, 0), ("bytes=0-0", 1), ("bytes=0-262143", 262144), (" bytes=0-99 ", 100)]
)
def test_session_range_tells_what_is_stored(header: str | None, stored: int) -> None:
    assert replies.read_stored({} if header is None else {"Range": header}, 1 << 20) == stored


@pytest.mark.parametrize("header", ["bytes=1-5", "0-5", "bytes=0-", "bytes=0--1", "", "bytes=0-1048576", "bytes=*"])
def test_session_range_that_makes_no_sense_is_a_bad_reply(header: str) -> None:
    with pytest.raises(BadReply):
        replies.read_stored({"Range": header}, 1 << 20)


@pytest.mark.parametrize(
    ("value", "expected_ns"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("1970-01-01T00:00:00.001Z", 1_000_000),
        ("1970-01-01T00:00:00.1234567Z", 123_456_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1969-12-31T23:59:59.999Z", -1_000_000),
        ("1970-01-01T00:00:00", 0),
        ("yesterday", 0),
        (None, 0),
        (5, 0),
    ],
)
def test_time_is_read_with_or_without_a_fraction(value: object, expected_ns: int) -> None:
    assert replies.read_time(value) == expected_ns


@given(st.integers(-(1 << 80), 1 << 80))
def test_time_is_written_for_any_number(time_ns: int) -> None:
    assert replies.read_time(replies.write_time(time_ns)) % 1_000_000 == 0


@given(st.integers(-(10**19), 10**20))
def test_time_comes_back_cut_to_milliseconds(time_ns: int) -> None:
    assert replies.read_time(replies.write_time(time_ns)) == time_ns // 1_000_000 * 1_000_000
