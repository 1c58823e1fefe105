"""Fields masks (`files(id,name),nextPageToken`): parsed, checked against the discovery document, applied.

A mask is a dict from field name to the mask below it; an empty dict takes everything below.
"""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Any

from drivefs.emulator.errors import invalid_parameter
from drivefs.emulator.schema import Api

Mask = dict[str, "Mask"]

ALL: Mask = {}
_TOKEN = re.compile(r"\s*([A-Za-z0-9_.\-$*]+|[(),/])")


def _refused(selection: str) -> Exception:
    return invalid_parameter("fields", f"Invalid field selection {selection}")


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = text
        self.tokens: list[str] = []
        position = 0
        end = len(text.rstrip())
        while position < end:
            match = _TOKEN.match(text, position)
            if match is None:
                raise _refused(text)
            self.tokens.append(match.group(1))
            position = match.end()
        self.at = 0

    def peek(self) -> str:
        return self.tokens[self.at] if self.at < len(self.tokens) else ""

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def selections(self) -> dict[str, Any]:
        """A list of selections; `None` below a name takes everything there."""
        result: dict[str, Any] = {}
        while True:
            self.selection(result)
            if self.peek() != ",":
                return result
            self.take()

    def selection(self, into: dict[str, Any]) -> None:
        name = self.take()
        if not name or name in "(),/":
            raise _refused(self.text)
        if self.peek() == "/":
            self.take()
            inner: dict[str, Any] = {}
            self.selection(inner)
            below: dict[str, Any] | None = inner
        elif self.peek() == "(":
            self.take()
            below = self.selections()
            if self.take() != ")":
                raise _refused(self.text)
        else:
            below = None
        _merge(into, name, below)


def _merge(into: dict[str, Any], name: str, below: dict[str, Any] | None) -> None:
    if name not in into:
        into[name] = below
    elif into[name] is not None:
        if below is None:
            into[name] = None
        else:
            for key, value in below.items():
                _merge(into[name], key, value)


@lru_cache(maxsize=512)
def compile_mask(api: Api, schema_name: str, text: str) -> Mask:
    """The mask of `text` for a reply of that schema; 400 `invalidParameter` names what is unknown."""
    parser = _Parser(text)
    tree = parser.selections()
    if parser.peek():
        raise _refused(text)
    return _checked(api, {"$ref": schema_name}, tree)


def _checked(api: Api, node: dict[str, Any], tree: dict[str, Any] | None) -> Mask:
    if tree is None:
        return ALL
    node = api.resolve(node)
    while node.get("type") == "array":
        node = api.resolve(node["items"])
    properties: dict[str, Any] = node.get("properties", {})
    free = node.get("additionalProperties")
    mask: Mask = {}
    for name, below in tree.items():
        if name == "*":
            if below is None:
                return ALL
            for each, child in properties.items():
                mask[each] = _checked_leniently(api, child, below)
        elif name in properties:
            mask[name] = _checked(api, properties[name], below)
        elif free is not None:
            mask[name] = _checked(api, free, below)
        else:
            raise _refused(name)
    return mask


def _checked_leniently(api: Api, node: dict[str, Any], below: dict[str, Any]) -> Mask:
    known = api.resolve(node)
    while known.get("type") == "array":
        known = api.resolve(known["items"])
    wanted = {name: child for name, child in below.items() if name in known.get("properties", {})}
    return _checked(api, node, wanted or None)


def apply_mask(value: Any, mask: Mask) -> Any:
    """What of `value` the mask lets through."""
    if not mask:
        return value
    if isinstance(value, list):
        return [apply_mask(item, mask) for item in value]
    if not isinstance(value, dict):
        return value
    return {name: apply_mask(value[name], below) for name, below in mask.items() if name in value}
