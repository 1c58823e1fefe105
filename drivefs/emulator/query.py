"""The search language of files.list (`q`), parsed. Google reads `and` and `or` from left to right."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from drivefs.emulator.errors import invalid

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<string>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")
      | (?P<op><=|>=|!=|=|<|>)
      | (?P<mark>[(){}])
      | (?P<word>[A-Za-z_][\w.\-:/]*|-?\d[\w.:+\-]*)
    )""",
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Term:
    """`field op value`; with `in` the value stands first in the text, with `has` it is a (key, value) pair."""

    field: str
    op: str
    value: Any


@dataclass(frozen=True, slots=True)
class Not:
    item: Node


@dataclass(frozen=True, slots=True)
class Both:
    """`left and right`, `left or right`."""

    op: str
    left: Node
    right: Node


Node = Term | Not | Both


def parse(text: str) -> Node:
    """The query's tree; 400 `invalid` at `q` when it is none."""
    tokens: list[tuple[str, str]] = []
    at, end = 0, len(text.rstrip())
    while at < end:
        match = _TOKEN.match(text, at)
        if match is None:
            raise invalid(location="q")
        tokens.append((str(match.lastgroup), match.group(str(match.lastgroup))))
        at = match.end()
    parser = _Parser(tokens)
    node = parser.expression(0)
    if parser.at != len(tokens):
        raise invalid(location="q")
    return node


def _unquoted(text: str) -> str:
    return re.sub(r"\\(.)", r"\1", text[1:-1], flags=re.DOTALL)


class _Parser:
    def __init__(self, tokens: list[tuple[str, str]]) -> None:
        self.tokens = tokens
        self.at = 0

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.at] if self.at < len(self.tokens) else ("end", "")

    def take(self, kind: str = "", text: str = "") -> str:
        found_kind, found = self.peek()
        if (kind and found_kind != kind) or (text and found.lower() != text):
            raise invalid(location="q")
        self.at += 1
        return found

    def word(self) -> str:
        kind, text = self.peek()
        return text.lower() if kind == "word" else ""

    def expression(self, depth: int) -> Node:
        if depth > 50:
            raise invalid("The query is too complex.", "q")
        left = self.unary(depth)
        while self.word() in ("and", "or"):
            op = self.take().lower()
            left = Both(op, left, self.unary(depth))
        return left

    def unary(self, depth: int) -> Node:
        if depth > 50:
            raise invalid("The query is too complex.", "q")
        if self.word() == "not":
            self.take()
            return Not(self.unary(depth + 1))
        if self.peek() == ("mark", "("):
            self.take()
            inner = self.expression(depth + 1)
            self.take("mark", ")")
            return inner
        return self.term()

    def term(self) -> Term:
        if self.peek()[0] == "string":
            value = _unquoted(self.take())
            self.take("word", "in")
            return Term(self.take("word"), "in", value)
        field = self.take("word")
        kind, op = self.peek()
        if kind == "op":
            self.take()
        elif self.word() in ("contains", "has"):
            op = self.take().lower()
        else:
            raise invalid(location="q")
        return Term(field, op, self.pair() if op == "has" else self.value())

    def value(self) -> str | bool:
        kind, text = self.peek()
        if kind == "string":
            return _unquoted(self.take())
        if kind == "word":
            self.take()
            return text.lower() == "true" if text.lower() in ("true", "false") else text
        raise invalid(location="q")

    def pair(self) -> tuple[str, str]:
        self.take("mark", "{")
        found: dict[str, str] = {}
        for at in range(3):
            if at:
                if self.peek() == ("mark", "}"):
                    break
                self.take("word", "and")
            name = self.take("word").lower()
            self.take("op", "=")
            found[name] = _unquoted(self.take("string"))
        self.take("mark", "}")
        if set(found) - {"key", "value", "visibility"} or not {"key", "value"} <= set(found):
            raise invalid(location="q")
        return found["key"], found["value"]
