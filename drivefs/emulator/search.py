"""Queries compiled to SQL over `files` (aliased f), for one caller."""

from __future__ import annotations

import re
from typing import Any

from drivefs.emulator.accounts import Caller
from drivefs.emulator.errors import invalid
from drivefs.emulator.query import Both, Node, Not, Term
from drivefs.emulator.times import parse_ms
from drivefs.emulator.tree import Tree

Clause = tuple[str, list[Any]]

_COMPARE = ("=", "!=", "<", "<=", ">", ">=")
_TIMES = {"modifiedTime": "f.modified_ms", "createdTime": "f.created_ms"}
_ACCESS = {"readers": 1, "writers": 3}

V2_NAMES = {
    "title": "name",
    "modifiedDate": "modifiedTime",
    "createdDate": "createdTime",
    "lastViewedByMeDate": "viewedByMeTime",
}


def words(text: str) -> list[str]:
    """What `contains` compares: runs of letters and digits, without case."""
    return re.findall(r"[^\W_]+", text.casefold())


def contains(text: str | None, wanted: str) -> int:
    """Whether the words of `wanted` stand in `text` one after another, the last one as a prefix."""
    needle = words(wanted)
    if not text:
        return 0
    if not needle:
        return int(wanted.casefold() in text.casefold())
    hay = words(text)
    head, last = needle[:-1], needle[-1]
    for at in range(len(hay) - len(needle) + 1):
        if hay[at : at + len(head)] == head and hay[at + len(head)].startswith(last):
            return 1
    return 0


class Search:
    """Compiles one query; `v2` reads the older names of fields."""

    def __init__(self, tree: Tree, caller: Caller, *, v2: bool = False) -> None:
        self.tree = tree
        self.caller = caller
        self.v2 = v2

    def compile(self, node: Node) -> Clause:
        """A condition with its arguments; 400 `invalid` for fields and operators that do not fit."""
        parents = self._parents_of(node)
        if parents is not None:
            # One IN instead of many ORs, so that the index serves it.
            marks = ",".join("?" * len(parents))
            return f"f.parent IN ({marks})", list(parents)
        if isinstance(node, Not):
            inner, arguments = self.compile(node.item)
            return f"NOT coalesce({inner}, 0)", arguments
        if isinstance(node, Both):
            clauses = [self.compile(each) for each in _chain(node)]
            joined = f" {node.op.upper()} ".join(clause for clause, _ in clauses)
            return f"({joined})", [argument for _, arguments in clauses for argument in arguments]
        return self._term(node)

    def _parents_of(self, node: Node) -> list[int] | None:
        if isinstance(node, Term) and node.field == "parents" and node.op == "in":
            return [self.tree.get(str(node.value), self.caller)["n"]] if node.value else [-1]
        if isinstance(node, Both) and node.op == "or":
            left = self._parents_of(node.left)
            right = None if left is None else self._parents_of(node.right)
            return None if left is None or right is None else left + right
        return None

    def _term(self, term: Term) -> Clause:
        field = V2_NAMES.get(term.field, term.field) if self.v2 else term.field
        op, value = term.op, term.value
        if field == "name" and op in ("=", "!="):
            return f"f.name_fold {op} ?", [str(value).casefold()]
        if field == "name" and op == "contains":
            return "contains_words(f.name_fold, ?)", [value]
        if field == "fullText" and op == "contains":
            return "contains_words(text_of(f.n), ?)", [str(value).strip('"')]
        if field == "mimeType" and op in ("=", "!="):
            return f"f.mime {op} ?", [value]
        if field == "mimeType" and op == "contains":
            return "f.mime LIKE ? ESCAPE '\\'", [re.sub(r"([%_\\])", r"\\\1", str(value)) + "%"]
        if field in _TIMES and op in _COMPARE:
            return f"{_TIMES[field]} {op} ?", [self._moment(value)]
        if field == "viewedByMeTime" and op in _COMPARE:
            return f"({self._state('viewed_ms')} {op} ?)", [self.caller.user.n, self._moment(value)]
        if field == "trashed" and op in ("=", "!="):
            return "f.trashed = ?", [self._flag(value, op)]
        if field == "starred" and op in ("=", "!="):
            return f"coalesce({self._state('starred')}, 0) = ?", [self.caller.user.n, self._flag(value, op)]
        if field == "sharedWithMe" and op in ("=", "!="):
            inside = "f.n IN (SELECT file FROM permissions WHERE user = ?) AND f.owner IS NOT ? AND f.drive IS NULL"
            return f"({inside}) = ?", [self.caller.user.n, self.caller.user.n, self._flag(value, op)]
        if field == "owners" and op == "in":
            return "f.owner = ?", [self._person(value)]
        if field in _ACCESS and op == "in":
            return self._access(_ACCESS[field], value)
        if field in ("properties", "appProperties") and op == "has":
            key, wanted = value
            if field == "properties":
                return "(SELECT value FROM json_each(f.properties) WHERE key = ?) = ?", [key, wanted]
            of_client = "SELECT j.value FROM json_each(f.app_properties) a, json_each(a.value) j WHERE a.key = ?"
            return f"({of_client} AND j.key = ?) = ?", [self.caller.client, key, wanted]
        if field == "visibility" and op in ("=", "!="):
            return self._visibility(str(value), op)
        if field == "shortcutDetails.targetId" and op in ("=", "!="):
            return f"f.target {op} ?", [value]
        raise invalid(location="q")

    def _state(self, column: str) -> str:
        return f"(SELECT s.{column} FROM user_state s WHERE s.user = ? AND s.file = f.n)"

    def _moment(self, value: Any) -> int:
        try:
            return parse_ms(str(value))
        except ValueError:
            raise invalid(location="q") from None

    def _flag(self, value: Any, op: str) -> int:
        if isinstance(value, str) and value in ("true", "false"):
            value = value == "true"
        if not isinstance(value, bool):
            raise invalid(location="q")
        return int(value == (op == "="))

    def _person(self, value: Any) -> int:
        if value == "me":
            return self.caller.user.n
        user = self.tree.accounts.find(str(value))
        return -1 if user is None else user.n

    def _access(self, rank: int, value: Any) -> Clause:
        roles = {1: "'reader','commenter','writer','fileOrganizer','organizer'"}.get(
            rank, "'writer','fileOrganizer','organizer'"
        )
        person = self._person(value)
        granted = f"SELECT file FROM permissions WHERE (user = ? OR email = ?) AND role IN ({roles})"
        return f"(f.owner = ? OR f.n IN ({below(granted)}))", [person, person, str(value)]

    def _visibility(self, value: str, op: str) -> Clause:
        kinds = {
            "anyoneCanFind": "type = 'anyone' AND discoverable = 1",
            "anyoneWithLink": "type = 'anyone' AND discoverable = 0",
            "domainCanFind": "type = 'domain' AND discoverable = 1",
            "domainWithLink": "type = 'domain' AND discoverable = 0",
        }
        if value == "limited":
            inside = "f.n NOT IN (SELECT file FROM permissions WHERE type IN ('anyone', 'domain'))"
        elif value in kinds:
            inside = f"f.n IN (SELECT file FROM permissions WHERE {kinds[value]})"
        else:
            raise invalid(location="q")
        return (inside if op == "=" else f"NOT ({inside})"), []


def _chain(node: Both) -> list[Node]:
    """The operands of `a or b or c`: SQLite takes a long chain, but no deep nest."""
    result: list[Node] = [node.right]
    at = node.left
    while isinstance(at, Both) and at.op == node.op:
        result.append(at.right)
        at = at.left
    return [at, *reversed(result)]


def below(select: str) -> str:
    """A SELECT of what `select` gives, and of all that lies below it."""
    return f"WITH RECURSIVE s(n) AS ({select} UNION SELECT c.n FROM files c JOIN s ON c.parent = s.n) SELECT n FROM s"


def visible(tree: Tree, caller: Caller) -> Clause:
    """What the caller sees outside of shared drives."""
    user = caller.user.n
    clause: Clause = ("f.owner = ?", [user])
    if tree.any_sharing and tree.db.value("SELECT 1 FROM permissions WHERE user = ?", (user,)) is not None:
        shared = below("SELECT file FROM permissions WHERE user = ?")
        clause = (f"(f.owner = ? OR (f.drive IS NULL AND f.n IN ({shared})))", [user, user])
    return clause


def visible_in_drives(tree: Tree, caller: Caller) -> Clause:
    """What the caller sees in shared drives."""
    if not tree.any_sharing:
        return "0", []
    return f"(f.drive IS NOT NULL AND f.n IN ({below('SELECT file FROM permissions WHERE user = ?')}))", [
        caller.user.n
    ]
