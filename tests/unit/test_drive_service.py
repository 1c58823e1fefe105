"""drivefs.drive.service: the requests that are made of the discovery document."""

from __future__ import annotations

import json
from urllib.parse import parse_qs, urlsplit

import pytest

from drivefs.drive.service import Call, Service, quoted
from drivefs.errors import Refused, UsageError
from drivefs.model import CreateTarget, DriveId, Metadata, RevisionId, UpdateTarget

ENDPOINT = "http://127.0.0.1:1"
FILE, PARENT = DriveId("F"), DriveId("P")
CREATE = CreateTarget(FILE, PARENT, Metadata(name="n"))


@pytest.fixture(scope="module")
def service() -> Service:
    return Service(ENDPOINT)


def query_of(call: Call) -> dict[str, str]:
    return {name: values[0] for name, values in parse_qs(urlsplit(call.uri).query).items()}


def all_calls(service: Service) -> dict[str, Call]:
    return {
        "about": service.about(),
        "get": service.get(FILE),
        "list_children": service.list_children([PARENT], None),
        "list_all": service.list_all("token"),
        "start_page_token": service.start_page_token(None),
        "changes": service.changes("token", None),
        "download": service.download(FILE, 0, 1, None),
        "download revision": service.download(FILE, 0, 1, RevisionId("R")),
        "generate_ids": service.generate_ids(10),
        "set_metadata": service.set_metadata(CREATE),
        "trash": service.trash(FILE),
        "delete": service.delete(FILE),
        "start_session": service.start_session(CREATE, 5, "a/b"),
        "upload_small": service.upload_small(CREATE, 5, "a/b"),
    }


def test_service_sends_every_call_to_the_endpoint(service: Service) -> None:
    for name, call in all_calls(service).items():
        assert call.uri.startswith((f"{ENDPOINT}/drive/v3/", f"{ENDPOINT}/upload/drive/v3/")), name


def test_service_keeps_a_path_of_the_endpoint() -> None:
    moved = Service("http://localhost:1/some/where/")
    for name, call in all_calls(moved).items():
        assert call.uri.startswith("http://localhost:1/some/where/"), name


def test_service_goes_to_google_without_an_endpoint() -> None:
    for name, call in all_calls(Service(None)).items():
        assert call.uri.startswith("https://www.googleapis.com/"), name


@pytest.mark.parametrize("endpoint", ["", "127.0.0.1:8080", "ftp://h/", "http://", "http://h/?q=1", "http://h/#x"])
def test_service_refuses_an_endpoint_that_is_no_url(endpoint: str) -> None:
    with pytest.raises(UsageError):
        Service(endpoint)


def test_service_asks_for_all_drives_wherever_that_exists(service: Service) -> None:
    without = {"about", "generate_ids", "download revision"}
    for name, call in all_calls(service).items():
        assert ("supportsAllDrives" in query_of(call)) == (name not in without), name


def test_list_children_ors_the_parents_in_one_quoted_query(service: Service) -> None:
    call = service.list_children([DriveId("a"), DriveId("b'\\c")], None)
    query = query_of(call)
    assert query["q"] == "('a' in parents or 'b\\'\\\\c' in parents) and trashed = false"
    assert query["pageSize"] == "1000"
    assert "pageToken" not in query
    assert "files(id,name," in query["fields"]


def test_quoted_escapes_what_ends_a_string() -> None:
    assert quoted("it's \\ it") == "it\\'s \\\\ it"


def test_identifiers_stay_inside_their_part_of_the_path(service: Service) -> None:
    call = service.get(DriveId("../about?x=#y/z"))
    assert urlsplit(call.uri).path == "/drive/v3/files/..%2Fabout%3Fx%3D%23y%2Fz"


def test_create_carries_its_id_and_parent(service: Service) -> None:
    call = service.set_metadata(
        CreateTarget(FILE, PARENT, Metadata("n", "text/x", 1_600_000_000_123_456_789, {"k": "v", "gone": None}))
    )
    assert call.method == "POST"
    assert json.loads(call.body or b"") == {
        "id": "F",
        "parents": ["P"],
        "name": "n",
        "mimeType": "text/x",
        "modifiedTime": "2020-09-13T12:26:40.123Z",
        "appProperties": {"k": "v", "gone": None},
    }


def test_update_sends_only_what_is_set(service: Service) -> None:
    call = service.set_metadata(UpdateTarget(FILE, Metadata(), DriveId("new"), DriveId("old")))
    query = query_of(call)
    assert (call.method, json.loads(call.body or b"")) == ("PATCH", {})
    assert (query["addParents"], query["removeParents"]) == ("new", "old")
    assert "addParents" not in query_of(service.set_metadata(UpdateTarget(FILE, Metadata("n"))))


def test_download_asks_for_a_range_of_the_head_or_of_a_revision(service: Service) -> None:
    head, old = service.download(FILE, 5, 10, None), service.download(FILE, 0, 1, RevisionId("R"))
    assert (head.headers["range"], old.headers["range"]) == ("bytes=5-14", "bytes=0-0")
    assert urlsplit(head.uri).path == "/drive/v3/files/F"
    assert urlsplit(old.uri).path == "/drive/v3/files/F/revisions/R"
    assert query_of(head)["alt"] == query_of(old)["alt"] == "media"
    assert head.headers["accept-encoding"] == "identity"


def test_session_declares_the_content_and_the_fields_of_its_reply(service: Service) -> None:
    call = service.start_session(CREATE, 123, "a/b")
    query = query_of(call)
    assert query["uploadType"] == "resumable"
    assert "headRevisionId" in query["fields"]
    assert call.headers["x-upload-content-type"] == "a/b"
    assert call.headers["x-upload-content-length"] == "123"
    unknown = service.start_session(UpdateTarget(FILE, Metadata()), None, "a/b")
    assert "x-upload-content-length" not in unknown.headers
    assert unknown.method == "PATCH"


def test_session_of_more_than_five_terabytes_is_refused(service: Service) -> None:
    with pytest.raises(Refused):
        service.start_session(CREATE, 6 * 10**12, "a/b")


def test_small_upload_is_multipart(service: Service) -> None:
    assert query_of(service.upload_small(CREATE, 5, "a/b"))["uploadType"] == "multipart"


def test_call_does_not_show_its_address(service: Service) -> None:
    assert "127.0.0.1" not in repr(service.get(FILE))
