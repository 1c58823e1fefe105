"""The emulator's sharing, shared drives and changes feed."""

from __future__ import annotations

from typing import Any

import pytest
import urllib3

from tests.emulator_support import FOLDER, Api

EVERYWHERE = {"supportsAllDrives": True, "includeItemsFromAllDrives": True}


def _share(api: Api, file_id: str, role: str = "reader") -> str:
    body = {"type": "user", "role": role, "emailAddress": "other@example.com"}
    return str(api.ok("POST", f"files/{file_id}/permissions", body)["id"])


def test_accounts_do_not_see_each_other(api: Api, other: Api) -> None:
    file_id = api.file("private", b"mine")["id"]
    assert other.get(f"files/{file_id}").status == 404
    assert other.names("name = 'private'") == []
    assert other.ok("GET", "files/root")["id"] != api.ok("GET", "files/root")["id"]


def test_a_shared_folder_shows_what_lies_below(api: Api, other: Api) -> None:
    folder = api.folder("shared")
    file_id = api.file("inside", b"mine", folder)["id"]
    permission = _share(api, folder)
    found = other.ok(
        "GET", f"files/{file_id}", fields="ownedByMe,shared,capabilities(canEdit,canDownload),permissions"
    )
    assert found == {"ownedByMe": False, "shared": True, "capabilities": {"canEdit": False, "canDownload": True}}
    assert other.names("sharedWithMe = true and name = 'shared'") == ["shared"]
    assert other.names(f"'{folder}' in parents") == ["inside"]
    assert other.call("PATCH", f"files/{file_id}", {"name": "x"}).reason == "insufficientFilePermissions"
    assert other.call("POST", "files", {"name": "x", "parents": [folder]}).reason == "insufficientParentPermissions"
    api.ok("PATCH", f"files/{folder}/permissions/{permission}", {"role": "writer"})
    assert other.call("PATCH", f"files/{file_id}", {"name": "renamed"}).status == 200
    assert other.call("DELETE", f"files/{file_id}").reason == "insufficientFilePermissions"
    api.ok("DELETE", f"files/{folder}/permissions/{permission}")
    assert other.get(f"files/{file_id}").status == 404


def test_anyone_with_the_link_downloads_without_a_token(api: Api) -> None:
    file_id = api.file("public", b"for all")["id"]
    link = api.ok("GET", f"files/{file_id}", fields="webContentLink")["webContentLink"]
    assert urllib3.request("GET", link).status == 403
    made = api.ok("POST", f"files/{file_id}/permissions", {"type": "anyone", "role": "reader"})
    assert made == {"kind": "drive#permission", "id": "anyoneWithLink", "type": "anyone", "role": "reader"}
    assert urllib3.request("GET", link).data == b"for all"
    assert api.names("visibility = 'anyoneWithLink' and name = 'public'") == ["public"]
    api.ok("DELETE", f"files/{file_id}/permissions/anyoneWithLink")
    assert urllib3.request("GET", link).status == 403


def test_permissions_are_checked(api: Api) -> None:
    path = f"files/{api.file('p')['id']}/permissions"
    assert api.call("POST", path, {"role": "reader"}).status == 400
    assert api.call("POST", path, {"type": "user", "role": "king", "emailAddress": "a@b"}).status == 400
    assert api.call("POST", path, {"type": "user", "role": "reader"}).status == 400
    assert api.call("DELETE", f"{path}/1missing").status == 404
    (owner,) = api.ok("GET", path, fields="permissions(id,role)")["permissions"]
    assert owner["role"] == "owner"
    assert api.call("DELETE", f"{path}/{owner['id']}").status == 403


def test_ownership_is_handed_over_only_when_meant(api: Api, other: Api) -> None:
    file_id = api.file("given", bytes(10))["id"]
    body = {"type": "user", "role": "owner", "emailAddress": "other@example.com"}
    assert api.call("POST", f"files/{file_id}/permissions", body).status == 403
    api.ok("POST", f"files/{file_id}/permissions", body, transferOwnership=True)
    assert other.ok("GET", f"files/{file_id}", fields="ownedByMe") == {"ownedByMe": True}
    assert api.ok("GET", f"files/{file_id}", fields="ownedByMe,capabilities/canEdit") == {
        "ownedByMe": False,
        "capabilities": {"canEdit": True},
    }


@pytest.fixture
def drive(api: Api, request: pytest.FixtureRequest) -> str:
    return str(api.ok("POST", "drives", {"name": "team"}, requestId=request.node.name)["id"])


def test_a_page_of_shared_items_names_no_folder_that_is_not_shared(api: Api, other: Api) -> None:
    for name in ("one", "two"):
        _share(api, str(api.file(f"shared-{name}", b"1")["id"]))
    found = other.ok(
        "GET", "files", q="sharedWithMe = true and name contains 'shared-'", fields="files(name,parents)"
    )
    assert sorted(item["name"] for item in found["files"]) == ["shared-one", "shared-two"]
    assert not any("parents" in item for item in found["files"])


def test_shared_drives_are_there_for_those_who_ask(api: Api, other: Api, drive: str) -> None:
    body = {"name": "in team", "parents": [drive]}
    assert api.call("POST", "files", body).status == 404
    made = api.ok("POST", "files", body, supportsAllDrives=True, fields="id,driveId,parents,owners,ownedByMe")
    assert made == {"id": made["id"], "driveId": drive, "parents": [drive]}
    assert api.get(f"files/{made['id']}").status == 404
    assert api.names("name = 'in team'") == []
    assert api.names("name = 'in team'", **EVERYWHERE) == ["in team"]
    assert api.names("name = 'in team'", corpora="drive", driveId=drive, **EVERYWHERE) == ["in team"]
    assert api.names("name = 'in team'", corpora="allDrives", **EVERYWHERE) == ["in team"]
    assert other.names("name = 'in team'", corpora="allDrives", **EVERYWHERE) == []
    assert other.get(f"drives/{drive}").status == 404
    assert drive in [entry["id"] for entry in api.ok("GET", "drives", pageSize=100)["drives"]]


def test_shared_drives_have_their_rules(api: Api, drive: str) -> None:
    assert api.call("POST", "drives", {"name": "x"}).reason == "required"
    assert api.get("files", corpora="drive", driveId=drive).status == 403
    assert api.get("files", driveId=drive).status == 400
    folder = api.folder("mine")
    moved = api.call("PATCH", f"files/{folder}", {}, addParents=drive, supportsAllDrives=True)
    assert moved.reason == "teamDrivesFolderMoveInNotSupported"
    file_id = api.file("file")["id"]
    reply = api.ok("PATCH", f"files/{file_id}", {}, addParents=drive, supportsAllDrives=True, fields="driveId")
    assert reply == {"driveId": drive}
    assert api.ok("PATCH", f"drives/{drive}", {"name": "renamed"})["name"] == "renamed"
    assert api.call("DELETE", f"drives/{drive}").status == 403
    api.ok("DELETE", f"files/{file_id}", supportsAllDrives=True)
    assert api.call("DELETE", f"drives/{drive}").status == 204


def test_a_creation_with_the_same_request_id_makes_one_drive(api: Api) -> None:
    assert api.call("POST", "drives", {"name": "once"}, requestId="same").status == 200
    assert api.call("POST", "drives", {"name": "once"}, requestId="same").status == 409


# --- changes ---


def _token(api: Api, **query: Any) -> str:
    return str(api.ok("GET", "changes/startPageToken", **query)["startPageToken"])


def _changes(api: Api, token: str, **query: Any) -> list[tuple[str, bool]]:
    fields = "changes(fileId,removed,file(name)),newStartPageToken"
    reply = api.ok("GET", "changes", pageToken=token, pageSize=1000, fields=fields, **query)
    assert "newStartPageToken" in reply
    return [(entry["fileId"], entry["removed"]) for entry in reply["changes"]]


def test_the_feed_has_each_item_once_at_its_latest_change(api: Api) -> None:
    token = _token(api)
    assert _changes(api, token) == []
    first, second = api.file("first")["id"], api.file("second")["id"]
    api.ok("PATCH", f"files/{first}", {"name": "renamed"})
    assert _changes(api, token) == [(second, False), (first, False)]
    token = _token(api)
    api.ok("DELETE", f"files/{second}")
    assert _changes(api, token) == [(second, True)]
    assert _changes(api, token, includeRemoved=False) == []


def test_the_feed_has_pages_and_its_tokens_last(api: Api) -> None:
    token = _token(api)
    made = [api.file(f"c{number}")["id"] for number in range(5)]
    seen, at = [], token
    while True:
        page = api.ok("GET", "changes", pageToken=at, pageSize=2, fields="*")
        seen += [entry["fileId"] for entry in page["changes"]]
        assert ("nextPageToken" in page) != ("newStartPageToken" in page)
        if "newStartPageToken" in page:
            break
        at = page["nextPageToken"]
    assert seen == made
    assert [file_id for file_id, _ in _changes(api, token)] == made
    assert api.get("changes", pageToken="99999999").reason == "invalid"


def test_feeds_tell_only_what_their_account_sees(api: Api, other: Api, drive: str) -> None:
    mine, theirs, team = _token(api), _token(other), _token(api, driveId=drive, supportsAllDrives=True)
    private = api.file("private")["id"]
    assert other.names("name = 'nothing'") == []
    assert _changes(other, theirs) == []
    permission = _share(api, private)
    assert _changes(other, theirs) == [(private, False)]
    theirs = _token(other)
    api.ok("DELETE", f"files/{private}/permissions/{permission}")
    assert _changes(other, theirs) == [(private, True)]
    body = {"name": "t", "parents": [drive], "mimeType": FOLDER}
    inside = api.ok("POST", "files", body, supportsAllDrives=True)["id"]
    assert _changes(api, team, driveId=drive, **EVERYWHERE) == [(inside, False)]
    assert (inside, False) not in _changes(api, mine)
