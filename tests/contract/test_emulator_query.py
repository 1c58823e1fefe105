"""The emulator's search language and listings (drive-api: files.list)."""

from __future__ import annotations

from urllib.parse import urlencode

import pytest

from tests.emulator_support import FOLDER, SHORTCUT, Api


@pytest.fixture
def place(api: Api) -> str:
    """A folder with something of everything."""
    folder = api.folder("place")
    api.file("HelloWorld.txt", b"x", folder, modifiedTime="2020-01-01T00:00:00Z", mimeType="text/plain")
    api.file(
        "hello there", b"the needle in the hay", folder, modifiedTime="2021-06-01T12:00:00Z", mimeType="text/plain"
    )
    api.file("it's a \\ name", b"", folder, modifiedTime="2022-01-01T00:00:00Z", mimeType="image/png")
    api.file("tagged", b"", folder, properties={"k": "it's"}, appProperties={"a": "b"}, description="blue whale")
    api.ok("POST", "files", {"name": "sub", "mimeType": FOLDER, "parents": [folder]})
    binned = api.file("binned", b"", folder)["id"]
    api.ok("PATCH", f"files/{binned}", {"trashed": True})
    starred = api.file("starred", b"", folder, modifiedTime="2019-01-01T00:00:00Z")["id"]
    api.ok("PATCH", f"files/{starred}", {"starred": True})
    return folder


ALL = {"HelloWorld.txt", "hello there", "it's a \\ name", "tagged", "sub", "binned", "starred"}


@pytest.mark.parametrize(
    ("q", "expected"),
    [
        ("trashed = false", ALL - {"binned"}),
        ("trashed=true", {"binned"}),
        ("trashed != true", ALL - {"binned"}),
        ("name = 'helloworld.TXT'", {"HelloWorld.txt"}),
        ("name != 'tagged' and trashed = false", ALL - {"binned", "tagged"}),
        (r"name = 'it\'s a \\ name'", {"it's a \\ name"}),
        ("name contains 'hello'", {"HelloWorld.txt", "hello there"}),
        ("name contains 'world'", set()),
        ("name contains 'ther'", {"hello there"}),
        ("name contains 'hello th'", {"hello there"}),
        ("fullText contains 'needle'", {"hello there"}),
        ("fullText contains 'whale'", {"tagged"}),
        ("mimeType = 'image/png'", {"it's a \\ name"}),
        ("mimeType contains 'text/'", {"HelloWorld.txt", "hello there"}),
        (f"mimeType='{FOLDER}'", {"sub"}),
        ("modifiedTime < '2021-06-01T12:00:00'", {"HelloWorld.txt", "starred"}),
        ("modifiedTime <= '2021-06-01T14:00:00+02:00'", {"HelloWorld.txt", "starred", "hello there"}),
        ("modifiedTime = '2020-01-01T00:00:00.000Z'", {"HelloWorld.txt"}),
        ("createdTime < '2020-01-01'", set()),
        ("starred = true", {"starred"}),
        ("not starred = true and trashed = false", ALL - {"starred", "binned"}),
        ("not (name = 'sub' or name = 'tagged' or trashed = true)", ALL - {"sub", "tagged", "binned"}),
        ("'me' in owners", ALL),
        ("'user@example.com' in writers", ALL),
        ("'nobody@example.com' in owners", set()),
        ("sharedWithMe = true", set()),
        (r"properties has { key='k' and value='it\'s' }", {"tagged"}),
        ("appProperties has {key='a' and value='b'}", {"tagged"}),
        ("appProperties has {key='a' and value='c'}", set()),
        ("visibility = 'limited' and starred = true", {"starred"}),
        ("visibility = 'anyoneWithLink'", set()),
        # From left to right: the last `and` holds for both sides of the `or`.
        ("name = 'sub' or name = 'tagged' and name = 'tagged'", {"tagged"}),
        ("name = 'sub' or (name = 'tagged' and name = 'tagged')", {"sub", "tagged"}),
    ],
)
def test_a_query_finds(api: Api, place: str, q: str, expected: set[str]) -> None:
    assert set(api.names(f"'{place}' in parents and ({q})")) == expected


@pytest.mark.parametrize(
    "q",
    ["name", "name =", "name = x y", "= 'a'", "name = 'a", "(name = 'a'", "name = 'a')", "name > 'a'", "size = 3",
     "modifiedTime = 'yesterday'", "trashed = 'perhaps'", "name = 'a' and", "md5Checksum = 'x'", "parents = 'a'",
     "properties has { key='a' }", "starred contains true", "visibility = 'secret'"],
)  # fmt: skip
def test_a_query_that_is_none_is_refused(api: Api, q: str) -> None:
    reply = api.get("files", q=q)
    assert (reply.status, reply.reason, reply.location) == (400, "invalid", "q"), reply.data


def test_many_parents_are_one_query(api: Api) -> None:
    folders = [api.folder(f"p{number}") for number in range(50)]
    for number, folder in enumerate(folders):
        api.file(f"in{number}", parent=folder)
    q = "(" + " or ".join(f"'{folder}' in parents" for folder in folders) + ") and trashed = false"
    assert sorted(api.names(q)) == sorted(f"in{number}" for number in range(50))


def test_a_query_too_long_for_a_url_comes_as_a_form(api: Api) -> None:
    api.file("found by form")
    q = " or ".join(["name = 'found by form'"] * 200)
    headers = {"X-HTTP-Method-Override": "GET", "Content-Type": "application/x-www-form-urlencoded"}
    body = urlencode({"q": q, "fields": "files(name)"}).encode()
    assert api.call("POST", "files", body, headers).json == {"files": [{"name": "found by form"}]}
    assert api.names(q[:16_000].rpartition(" or ")[0]) == ["found by form"]


def test_an_unknown_parent_answers_404(api: Api) -> None:
    assert api.get("files", q="'1missing' in parents").status == 404


def test_root_is_an_alias_in_queries_and_is_never_listed(api: Api) -> None:
    api.file("at the root")
    assert "at the root" in api.names("'root' in parents")
    assert "My Drive" not in api.names("trashed = false")


def test_shortcuts_are_found_by_target(api: Api) -> None:
    target = api.file("target")["id"]
    api.ok("POST", "files", {"name": "link", "mimeType": SHORTCUT, "shortcutDetails": {"targetId": target}})
    assert api.names(f"shortcutDetails.targetId = '{target}'") == ["link"]


def test_pages_hold_everything_once_while_files_come_and_go(api: Api) -> None:
    folder = api.folder("paged")
    made = [api.file(f"n{number}", parent=folder) for number in range(25)]
    q, token, seen = f"'{folder}' in parents", "", []
    while True:
        query = {"pageToken": token} if token else {}
        page = api.ok("GET", "files", q=q, pageSize=10, fields="nextPageToken,files(id)", **query)
        seen += [item["id"] for item in page["files"]]
        token = page.get("nextPageToken", "")
        if not token:
            break
        # What was listed already goes: the rest must neither be skipped nor come twice.
        api.ok("DELETE", f"files/{seen[0 if len(seen) <= 10 else 1]}")
    assert seen == [item["id"] for item in made]


def test_a_page_token_belongs_to_its_query(api: Api) -> None:
    for number in range(3):
        api.file(f"t{number}")
    token = api.ok("GET", "files", q="trashed = false", pageSize=1)["nextPageToken"]
    reply = api.get("files", q="trashed = true", pageSize=1, pageToken=token)
    assert (reply.status, reply.location) == (400, "pageToken")


def test_listings_are_ordered(api: Api, place: str) -> None:
    inside = f"'{place}' in parents and trashed = false"
    by_time = api.names(inside + " and name != 'tagged' and name != 'sub'", orderBy="modifiedTime desc")
    assert by_time == ["it's a \\ name", "hello there", "HelloWorld.txt", "starred"]
    assert api.names(inside, orderBy="folder,name")[0] == "sub"
    numbers = api.folder("numbers")
    for name in ("n10", "n9", "n100"):
        api.file(name, parent=numbers)
    assert api.names(f"'{numbers}' in parents", orderBy="name_natural") == ["n9", "n10", "n100"]
    assert api.names(f"'{numbers}' in parents", orderBy="name desc") == ["n9", "n100", "n10"]
    first = api.ok("GET", "files", q=f"'{numbers}' in parents", orderBy="name", pageSize=2)
    assert [item["name"] for item in first["files"]] == ["n10", "n100"]
    second = api.names(f"'{numbers}' in parents", orderBy="name", pageToken=first["nextPageToken"])
    assert second == ["n9"]
