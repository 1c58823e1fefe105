"""The emulator's files: what Google takes, and how it refuses the rest."""

from __future__ import annotations

import hashlib

import pytest

from drivefs.emulator import Running
from tests.emulator_support import DOCUMENT, FOLDER, SHORTCUT, Api


def test_a_create_repeated_with_its_id_answers_409(api: Api) -> None:
    (file_id,) = api.ids()
    assert api.ok("POST", "files", {"id": file_id, "name": "a", "mimeType": FOLDER})["id"] == file_id
    again = api.call("POST", "files", {"id": file_id, "name": "a", "mimeType": FOLDER})
    assert (again.status, again.reason) == (409, "fileIdInUse")


def test_an_id_stays_used_after_its_file_is_deleted(api: Api) -> None:
    (file_id,) = api.ids()
    api.ok("POST", "files", {"id": file_id, "name": "a"})
    api.ok("DELETE", f"files/{file_id}")
    assert api.call("POST", "files", {"id": file_id, "name": "a"}).status == 409


@pytest.mark.parametrize("file_id", ["x", "1" + "A" * 32, "../../etc"])
def test_an_id_that_was_never_generated_is_refused(api: Api, file_id: str) -> None:
    reply = api.call("POST", "files", {"id": file_id, "name": "a"})
    assert (reply.status, reply.reason) == (400, "invalid")


def test_ids_have_a_type(api: Api) -> None:
    target = api.file("target")["id"]
    body = {"name": "s", "mimeType": SHORTCUT, "shortcutDetails": {"targetId": target}}
    assert api.call("POST", "files", {**body, "id": api.ids()[0]}).status == 400
    assert api.call("POST", "files", {**body, "id": api.ids(type="shortcuts")[0]}).status == 200


@pytest.mark.parametrize("count", [0, 1001])
def test_generate_ids_gives_1_to_1000(api: Api, count: int) -> None:
    reply = api.get("files/generateIds", count=count)
    assert (reply.status, reply.reason, reply.location) == (400, "invalidParameter", "count")


def test_what_is_in_a_file_resource(api: Api) -> None:
    content = b"some bytes"
    found = api.file("a.tar.gz", content, modifiedTime="2020-02-29T12:34:56.789Z", description="d")
    assert found["size"] == "10"
    assert found["md5Checksum"] == hashlib.md5(content).hexdigest()
    assert found["sha1Checksum"] == hashlib.sha1(content).hexdigest()
    assert found["sha256Checksum"] == hashlib.sha256(content).hexdigest()
    assert found["modifiedTime"] == "2020-02-29T12:34:56.789Z"
    assert found["fullFileExtension"] == "tar.gz"
    assert found["fileExtension"] == "gz"
    assert found["ownedByMe"] is True
    assert found["owners"][0]["me"] is True
    assert found["parents"] == [api.ok("GET", "files/root")["id"]]
    assert found["capabilities"]["canEdit"] is True
    assert "driveId" not in found
    folder = api.ok("GET", f"files/{api.folder()}", fields="*")
    assert not {"size", "md5Checksum", "sha256Checksum", "headRevisionId", "webContentLink"} & set(folder)


def test_default_fields_are_few(api: Api) -> None:
    assert set(api.ok("GET", f"files/{api.file('a')['id']}")) == {"kind", "id", "name", "mimeType"}
    listed = api.ok("GET", "files", pageSize=1)
    assert set(listed["files"][0]) == {"kind", "id", "name", "mimeType"}
    assert listed["incompleteSearch"] is False


def test_a_fields_mask_selects_and_is_checked(api: Api) -> None:
    file_id = api.file("a")["id"]
    assert set(api.ok("GET", f"files/{file_id}", fields="id,capabilities(canEdit),owners/me")) == {
        "id",
        "capabilities",
        "owners",
    }
    found = api.ok("GET", f"files/{file_id}", fields="capabilities/canEdit,owners(me)")
    assert found == {"capabilities": {"canEdit": True}, "owners": [{"me": True}]}
    for mask in ("nonsense", "id,files(id)", "id(", "id)", "capabilities(canFly)"):
        reply = api.get(f"files/{file_id}", fields=mask)
        assert (reply.status, reply.reason, reply.location) == (400, "invalidParameter", "fields"), mask


def test_a_wrong_mask_is_refused_before_anything_is_done(api: Api) -> None:
    (file_id,) = api.ids()
    assert api.call("POST", "files", {"id": file_id, "name": "x"}, fields="nonsense").status == 400
    assert api.get(f"files/{file_id}").status == 404


@pytest.mark.parametrize(
    ("path", "query", "reason", "location"),
    [
        ("files", {"unknown": "1"}, "invalidParameter", "unknown"),
        ("files", {"pageSize": "many"}, "invalidParameter", "pageSize"),
        ("files", {"pageSize": "1001"}, "invalidParameter", "pageSize"),
        ("files", {"supportsAllDrives": "perhaps"}, "invalidParameter", "supportsAllDrives"),
        ("files", {"pageToken": "nonsense"}, "invalid", "pageToken"),
        ("files", {"orderBy": "colour"}, "invalid", "orderBy"),
        ("files", {"q": "name is 'a'"}, "invalid", "q"),
        ("changes", {}, "required", "pageToken"),
        ("changes", {"pageToken": "x"}, "invalid", "pageToken"),
        ("about", {}, "required", "fields"),
    ],
)
def test_parameters_are_checked(api: Api, path: str, query: dict[str, str], reason: str, location: str) -> None:
    reply = api.get(path, **query)
    assert (reply.status, reply.reason, reply.location) == (400, reason, location)


def test_common_parameters_are_known_everywhere(api: Api) -> None:
    query = {"prettyPrint": "true", "alt": "json", "$.xgafv": "2", "key": "k", "quotaUser": "q"}
    assert b"\n" in api.get("files/root", **query).data


def test_unknown_methods_answer_404(api: Api) -> None:
    assert api.get("nothing").status == 404
    assert api.call("PUT", "files/root", {}).status == 404


@pytest.mark.parametrize(
    "body",
    [
        {"size": "1"},
        {"md5Checksum": "0" * 32},
        {"version": "7"},
        {"id": "x"},
        {"parents": ["root"]},
        {"ownedByMe": True},
    ],
)
def test_read_only_fields_cannot_be_written(api: Api, body: dict[str, object]) -> None:
    reply = api.call("PATCH", f"files/{api.file('a')['id']}", body)
    assert (reply.status, reply.reason) == (403, "fieldNotWritable")


def test_unknown_fields_are_ignored_and_ill_typed_ones_refused(api: Api) -> None:
    assert api.call("POST", "files", {"name": "a", "colour": "red"}).status == 200
    assert api.call("POST", "files", {"name": ["a"]}).status == 400
    assert api.call("POST", "files", b"{", {"Content-Type": "application/json"}).reason == "parseError"


def test_a_missing_file_answers_404_with_its_id(api: Api) -> None:
    for verb, body in (("GET", None), ("PATCH", {"name": "b"}), ("DELETE", None)):
        reply = api.call(verb, "files/1missing", body)
        assert (reply.status, reply.reason, reply.location) == (404, "notFound", "fileId")
        assert reply.json["error"]["message"] == "File not found: 1missing."


def test_a_move_replaces_the_one_parent(api: Api) -> None:
    first, second = api.folder("first"), api.folder("second")
    file_id = api.file("a", parent=first)["id"]
    moved = api.ok("PATCH", f"files/{file_id}", {}, addParents=second, removeParents=first, fields="parents")
    assert moved == {"parents": [second]}
    assert api.names(f"'{first}' in parents") == []
    assert api.names(f"'{second}' in parents") == ["a"]


def test_a_folder_cannot_move_below_itself(api: Api) -> None:
    top = api.folder("top")
    below = api.folder("below", top)
    for target in (top, below):
        assert api.call("PATCH", f"files/{top}", {}, addParents=target).status == 403


def test_a_file_is_no_parent(api: Api) -> None:
    reply = api.call("POST", "files", {"name": "b", "parents": [api.file("a")["id"]]})
    assert (reply.status, reply.reason) == (403, "parentNotAFolder")
    assert api.call("POST", "files", {"name": "b", "parents": ["root", "root"]}).status == 403
    assert api.call("POST", "files", {"name": "b", "parents": ["1missing"]}).status == 404


def test_folders_nest_100_deep_and_no_deeper(api: Api) -> None:
    at = "root"
    for level in range(100):
        at = api.folder(f"level{level}", at)
    reply = api.call("POST", "files", {"name": "deep", "mimeType": FOLDER, "parents": [at]})
    assert (reply.status, reply.reason) == (403, "myDriveHierarchyDepthLimitExceeded")
    assert api.call("POST", "files", {"name": "a file", "parents": [at]}).status == 200


def test_a_trashed_folder_takes_what_lies_below_with_it(api: Api) -> None:
    folder = api.folder("bin")
    inner = api.file("inner", parent=folder)["id"]
    alone = api.file("alone", parent=folder)["id"]
    api.ok("PATCH", f"files/{alone}", {"trashed": True})
    api.ok("PATCH", f"files/{folder}", {"trashed": True})

    def state(file_id: str) -> tuple[bool, bool]:
        found = api.ok("GET", f"files/{file_id}", fields="trashed,explicitlyTrashed")
        return found["trashed"], found["explicitlyTrashed"]

    assert (state(folder), state(inner), state(alone)) == ((True, True), (True, False), (True, True))
    api.ok("PATCH", f"files/{folder}", {"trashed": False})
    assert (state(folder), state(inner), state(alone)) == ((False, False), (False, False), (True, True))


def test_emptying_the_trash_and_deleting_are_for_good(api: Api) -> None:
    folder = api.folder("gone")
    inner = api.file("inner", parent=folder)["id"]
    api.ok("PATCH", f"files/{folder}", {"trashed": True})
    assert api.call("DELETE", "files/trash").status == 204
    assert api.get(f"files/{folder}").status == api.get(f"files/{inner}").status == 404
    root = api.ok("GET", "files/root")["id"]
    assert api.call("DELETE", f"files/{root}").status == 403


def test_a_copy_has_the_content_and_an_id_of_its_own(api: Api) -> None:
    source = api.file("a", b"content", properties={"k": "v"})
    copied = api.ok("POST", f"files/{source['id']}/copy", {"name": "b"}, fields="*")
    assert copied["id"] != source["id"]
    assert (copied["name"], copied["md5Checksum"], copied["properties"]) == ("b", source["md5Checksum"], {"k": "v"})
    api.ok("DELETE", f"files/{source['id']}")
    assert api.get(f"files/{copied['id']}", alt="media").data == b"content"
    assert api.call("POST", f"files/{api.folder()}/copy", {}).status == 403


def test_a_shortcut_keeps_its_target_even_when_that_is_gone(api: Api) -> None:
    target = api.file("target")["id"]
    body = {"name": "s", "mimeType": SHORTCUT, "shortcutDetails": {"targetId": target}}
    made = api.ok("POST", "files", body, fields="id,size,shortcutDetails")
    assert made["shortcutDetails"] == {"targetId": target, "targetMimeType": "application/octet-stream"}
    assert "size" not in made
    change = api.call("PATCH", f"files/{made['id']}", {"shortcutDetails": {"targetId": target}})
    assert change.reason == "fieldNotWritable"
    api.ok("DELETE", f"files/{target}")
    assert api.ok("GET", f"files/{made['id']}", fields="shortcutDetails") == {"shortcutDetails": {"targetId": target}}


def test_app_properties_belong_to_one_oauth_client(api: Api, emulator: Running) -> None:
    file_id = api.file("a", appProperties={"mine": "1"})["id"]
    stranger = Api(emulator, client="stranger")
    try:
        assert api.ok("GET", f"files/{file_id}", fields="appProperties") == {"appProperties": {"mine": "1"}}
        assert stranger.ok("GET", f"files/{file_id}", fields="appProperties") == {}
        assert stranger.names("appProperties has { key='mine' and value='1' }") == []
        assert "a" in api.names("appProperties has { key='mine' and value='1' }")
    finally:
        stranger.close()


def test_properties_merge_and_have_limits(api: Api) -> None:
    file_id = api.file("a", properties={"a": "1", "b": "2"})["id"]
    changed = api.ok("PATCH", f"files/{file_id}", {"properties": {"a": None, "c": "3"}}, fields="properties")
    assert changed == {"properties": {"b": "2", "c": "3"}}
    fits, too_long = {"k": "é" * 61 + "x"}, {"k": "é" * 62}
    assert api.call("PATCH", f"files/{file_id}", {"properties": fits}).status == 200
    assert api.call("PATCH", f"files/{file_id}", {"properties": too_long}).status == 400
    many = {f"key{number}": "v" for number in range(31)}
    assert api.call("PATCH", f"files/{file_id}", {"appProperties": many}).status == 403


def test_version_grows_with_every_change(api: Api) -> None:
    file_id = api.file("a")["id"]
    versions = [int(api.ok("GET", f"files/{file_id}", fields="version")["version"])]
    for body in ({"name": "b"}, {"starred": True}, {"trashed": True}, {"trashed": False}):
        versions.append(int(api.ok("PATCH", f"files/{file_id}", body, fields="version")["version"]))
    assert versions == sorted(set(versions))


def test_google_documents_are_exported_and_never_downloaded(api: Api) -> None:
    made = api.ok("POST", "files", {"name": "doc", "mimeType": DOCUMENT}, fields="*")
    assert "size" not in made
    assert api.get(f"files/{made['id']}", alt="media").reason == "fileNotDownloadable"
    docx = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
    assert docx in made["exportLinks"]
    exported = api.get(f"files/{made['id']}/export", mimeType=docx)
    assert (exported.data[:2], exported.headers["Content-Type"]) == (b"PK", docx)
    assert api.get(f"files/{made['id']}/export", mimeType="video/mp4").status == 400
    assert api.get(f"files/{api.file('bin')['id']}/export", mimeType=docx).reason == "fileNotExportable"
    big = api.multipart({"name": "big", "mimeType": DOCUMENT}, b"a" * (11 << 20), "text/plain").json["id"]
    assert api.get(f"files/{big}/export", mimeType="text/plain").reason == "exportSizeLimitExceeded"


def test_about_says_whose_drive_it_is_and_how_full(api: Api) -> None:
    before = int(api.ok("GET", "about", fields="storageQuota")["storageQuota"]["usage"])
    file_id = api.file("a", bytes(1000))["id"]
    api.ok("PATCH", f"files/{file_id}", {"trashed": True})
    found = api.ok("GET", "about", fields="user(emailAddress),storageQuota")
    assert found["user"] == {"emailAddress": "user@example.com"}
    assert int(found["storageQuota"]["usage"]) == before + 1000
    assert int(found["storageQuota"]["usageInDriveTrash"]) >= 1000
    api.ok("DELETE", f"files/{file_id}")
    assert int(api.ok("GET", "about", fields="storageQuota")["storageQuota"]["usage"]) == before


def test_a_full_drive_takes_no_content(api: Api, emulator: Running) -> None:
    used = int(api.ok("GET", "about", fields="storageQuota")["storageQuota"]["usage"])
    try:
        emulator.admin.set_quota(storage_bytes=used + 100)
        assert api.multipart({"name": "large"}, bytes(101)).reason == "storageQuotaExceeded"
        assert api.start({"name": "large"}, 101).reason == "storageQuotaExceeded"
        assert api.multipart({"name": "fits"}, bytes(100)).status == 200
    finally:
        emulator.admin.set_quota(storage_bytes=1 << 40)
