"""files.list: scope, query, order and pages."""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any

from drivefs.emulator.accounts import Caller
from drivefs.emulator.database import Row
from drivefs.emulator.errors import ApiError, invalid, invalid_parameter
from drivefs.emulator.query import parse
from drivefs.emulator.search import Clause, Search, contains, visible, visible_in_drives
from drivefs.emulator.tree import Tree

_TEXT_LIMIT_BYTES = 65_536

_ORDER = {
    "createdTime": "f.created_ms",
    "folder": "(f.mime = 'application/vnd.google-apps.folder')",
    "modifiedByMeTime": "(SELECT s.modified_ms FROM user_state s WHERE s.user = {user} AND s.file = f.n)",
    "modifiedTime": "f.modified_ms",
    "name": "f.name_fold",
    "name_natural": "natural_key(f.name_fold)",
    "quotaBytesUsed": "coalesce(f.size, 0)",
    "recency": "max(f.modified_ms, f.created_ms)",
    "sharedWithMeTime": "(SELECT p.granted_ms FROM permissions p WHERE p.user = {user} AND p.file = f.n)",
    "starred": "coalesce((SELECT s.starred FROM user_state s WHERE s.user = {user} AND s.file = f.n), 0)",
    "viewedByMeTime": "(SELECT s.viewed_ms FROM user_state s WHERE s.user = {user} AND s.file = f.n)",
}
_ORDER_V2 = {
    "createdDate": "createdTime",
    "lastViewedByMeDate": "viewedByMeTime",
    "modifiedByMeDate": "modifiedByMeTime",
    "modifiedDate": "modifiedTime",
    "sharedWithMeDate": "sharedWithMeTime",
    "title": "name",
    "title_natural": "name_natural",
}
# Folders first and the starred first, although they are flags.
_TURNED = ("folder", "starred")


def natural(text: str) -> str:
    """`text` so that numbers in it sort by their value."""
    result, digits = [], ""
    for letter in text + "\0":
        if letter.isdecimal():
            digits += letter
            continue
        if digits:
            result.append(f"{len(digits.lstrip('0')):04d}{digits.lstrip('0')}")
            digits = ""
        result.append(letter)
    return "".join(result)


def register_functions(tree: Tree) -> None:
    """Make known to SQLite what the statements call; once a connection."""
    tree.db.sql.create_function("contains_words", 2, contains, deterministic=True)
    tree.db.sql.create_function("natural_key", 1, natural, deterministic=True)
    tree.db.sql.create_function("text_of", 1, lambda n: _text(tree, n))


def list_files(
    tree: Tree, caller: Caller, query: dict[str, Any], *, v2: bool = False
) -> tuple[list[Row], str | None]:
    """A page of rows, and the token of the next one."""
    size = query.get("maxResults", 100) if v2 else query.get("pageSize", 100)
    if not 1 <= size <= 1000:
        name = "maxResults" if v2 else "pageSize"
        raise invalid_parameter(name, f"Invalid value '{size}'. Values must be within the range: [1, 1000]")
    spaces = {part.strip() for part in query.get("spaces", "drive").split(",")}
    if spaces - {"drive", "appDataFolder", "photos"}:
        raise invalid(location="spaces")
    if "drive" not in spaces:
        return [], None
    conditions = [("f.is_root = 0", []), _scope(tree, caller, query)]
    text = query.get("q", "").strip()
    if text:
        search = Search(tree, caller, v2=v2)
        conditions.append(search.compile(parse(text)))
    if caller.only_own_files:
        conditions.append(("f.creator_app = ?", [caller.client]))
    order = _order(caller, query.get("orderBy", ""), v2=v2)
    shape = [text, query.get("orderBy"), query.get("corpora"), query.get("driveId"), caller.user.n]
    mark = hashlib.sha256(json.dumps(shape).encode()).hexdigest()[:12]
    after = _read_token(query["pageToken"], mark) if query.get("pageToken") else 0
    arguments = [argument for _, arguments in conditions for argument in arguments]
    where = " AND ".join(clause for clause, _ in conditions)
    if order:
        statement = f"SELECT f.* FROM files f WHERE {where} ORDER BY {order}, f.n LIMIT ? OFFSET ?"
        rows = tree.db.rows(statement, (*arguments, size + 1, after))
        following = after + size
    else:
        # By the order of creation, each page from where the last one ended: as fast at the millionth item.
        inner = f"SELECT f.n FROM files f WHERE f.n > ? AND {where} ORDER BY f.n LIMIT ?"
        statement = f"SELECT * FROM files WHERE n IN ({inner}) ORDER BY n"
        rows = tree.db.rows(statement, (after, *arguments, size + 1))
        following = rows[size - 1]["n"] if len(rows) > size else 0
    if len(rows) <= size:
        return rows, None
    return rows[:size], _token(following, mark)


def _scope(tree: Tree, caller: Caller, query: dict[str, Any]) -> Clause:
    corpora = query.get("corpora", "user")
    # v2's names for the same are read too.
    drive = query.get("driveId") or query.get("teamDriveId")
    with_drives = query.get("includeItemsFromAllDrives") or query.get("includeTeamDriveItems") or False
    supports = query.get("supportsAllDrives") or query.get("supportsTeamDrives") or False
    if corpora == "teamDrive":
        corpora = "drive"
    if corpora not in ("user", "domain", "drive", "allDrives", "allTeamDrives", "default"):
        raise invalid(location="corpora")
    if drive and corpora != "drive":
        raise ApiError(
            400,
            "teamDriveIdRequiresTeamDriveCorpora",
            "The driveId parameter must be specified if and only if corpora is set to drive.",
            location="corpora",
        )
    if with_drives and not supports:
        raise ApiError(
            403,
            "includeItemsFromAllDrivesRequiresSupportsAllDrives",
            "The includeItemsFromAllDrives parameter requires supportsAllDrives.",
        )
    if corpora == "drive":
        if not drive:
            raise ApiError(
                400,
                "teamDriveIdRequired",
                "The driveId parameter must be specified if and only if corpora is set to drive.",
                location="driveId",
            )
        if not with_drives or not supports:
            raise ApiError(
                403,
                "teamDrivesNotSupported",
                "The attempted operation requires shared drive support: supportsAllDrives and "
                "includeItemsFromAllDrives must be true.",
            )
        root = tree.find(drive)
        if root is None or not root["is_root"] or tree.role(root, caller) is None:
            raise ApiError(404, "notFound", f"Shared drive not found: {drive}", location="driveId")
        return "f.drive = ?", [drive]
    mine, arguments = visible(tree, caller)
    if not with_drives:
        return mine, arguments
    theirs, more = visible_in_drives(tree, caller)
    return f"({mine} OR {theirs})", arguments + more


def _order(caller: Caller, text: str, *, v2: bool) -> str:
    parts = []
    for key in filter(None, (part.strip() for part in text.split(","))):
        name, _, direction = key.partition(" ")
        name = _ORDER_V2.get(name, name) if v2 else name
        if name not in _ORDER or direction.strip() not in ("", "desc"):
            raise invalid(location="orderBy")
        down = (direction.strip() == "desc") != (name in _TURNED)
        parts.append(_ORDER[name].format(user=caller.user.n) + (" DESC" if down else ""))
    return ", ".join(parts)


def _token(after: int, mark: str) -> str:
    return "~!!~" + base64.urlsafe_b64encode(f"{mark}:{after}".encode()).decode()


def _read_token(token: str, mark: str) -> int:
    try:
        found, _, after = base64.urlsafe_b64decode(token.removeprefix("~!!~")).decode().partition(":")
        number = int(after)
    except ValueError:
        raise invalid(location="pageToken") from None
    if found != mark:
        raise invalid(location="pageToken")
    return number


def _text(tree: Tree, n: int) -> str:
    """What fullText looks through: name, description, the hint, and the beginning of a text's content."""
    row = tree.by_n(n)
    more = json.loads(row["more"] or "{}")
    parts = [row["name"], more.get("description", ""), more.get("indexableText", "")]
    if row["head"] and (row["mime"].startswith(("text/", "application/vnd.google-apps."))):
        blob = tree.db.value("SELECT blob FROM revisions WHERE id = ?", (row["head"],))
        if blob is not None:
            with tree.contents.path(blob).open("rb") as file:
                parts.append(file.read(_TEXT_LIMIT_BYTES).decode("utf-8", "replace"))
    return "\n".join(parts)
