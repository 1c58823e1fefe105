"""How programs save: under which name a file ends that is written under another, and whose beginnings change.

Learned from what they do, for as long as the process lives; a wrong guess costs bytes sent in vain, never more. Any
thread may enter.
"""

from __future__ import annotations

import re
import threading
from typing import NamedTuple, TypeVar

from drivefs.model import Inode

K = TypeVar("K")
V = TypeVar("V")

REMEMBERED = 256
"""Patterns of each kind; the ones seen last."""

_STEM = "tempstate|temporary|temp|tmp|partial|part|incomplete|download|saving|new"
_MARK = rf"(tempstate|tmp)[A-Za-z0-9_]*|({_STEM})([0-9_][A-Za-z0-9_]*)?"
_AFFIX = re.compile(rf"([^A-Za-z0-9]*)({_STEM})?([A-Za-z0-9_]*)([^A-Za-z0-9]*)", re.IGNORECASE)
_TEMPORARY = re.compile(rf"[.~#].*|(.*[^A-Za-z0-9])?({_MARK})|.*~", re.IGNORECASE)


class Rule(NamedTuple):
    """A name that fits `pattern` ends as its group `target`, or as `name` in `parent`."""

    pattern: re.Pattern[str]
    parent: Inode | None = None
    name: str | None = None


class Habits:
    """What one mount has seen."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # guards both
        self._rules: dict[tuple[str, Inode | None], Rule] = {}
        self._vain: dict[str, None] = {}

    def renamed(self, parent: Inode, name: str, new_parent: Inode, new_name: str) -> None:
        """A file was renamed, perhaps over another."""
        rule = _rule(parent, name, new_parent, new_name)
        if rule is not None:
            with self._lock:
                _remember(self._rules, (rule.pattern.pattern, rule.parent and parent), rule)

    def target_of(self, parent: Inode, name: str) -> tuple[Inode, str] | None:
        """Folder and name that a file of this name got last time; None when nothing is known."""
        with self._lock:
            for (_, of), rule in reversed(self._rules.items()):
                if of not in (None, parent):
                    continue
                match = rule.pattern.fullmatch(name)
                if match is not None:
                    return (parent, match["target"]) if rule.name is None else (rule.parent or parent, rule.name)
        return None

    def in_vain(self, name: str) -> None:
        """What was sent of a file's beginning before its end had to be given up."""
        with self._lock:
            _remember(self._vain, _shape(name), None)

    def is_worth_it(self, name: str) -> bool:
        """Whether a file of this name may be sent from its beginning while it is written."""
        with self._lock:
            return _shape(name) not in self._vain


def is_temporary(name: str) -> bool:
    """Whether a name looks as if it were soon to be another."""
    return _TEMPORARY.fullmatch(name) is not None


def _remember(table: dict[K, V], key: K, value: V) -> None:
    table.pop(key, None)
    table[key] = value
    if len(table) > REMEMBERED:
        del table[next(iter(table))]


def _shape(name: str) -> str:
    return re.sub(r"\d+", "0", name)


def _rule(parent: Inode, name: str, new_parent: Inode, new_name: str) -> Rule | None:
    at = name.find(new_name)
    if at >= 0 and parent == new_parent:
        before, after = name[:at], name[at + len(new_name) :]
        if is_temporary(name):
            return Rule(re.compile(f"{_affix(before)}(?P<target>.+?){_affix(after)}"))
    if not is_temporary(name):
        return None
    return Rule(re.compile(_affix(name)), new_parent, new_name)


def _affix(text: str) -> str:
    """A pattern of this part of a name, and of those that differ in what is random in it only."""
    match = _AFFIX.fullmatch(text)
    if match is None or not (match[2] or match[3]):
        return re.escape(text)
    return f"{re.escape(match[1])}{match[2] or ''}[A-Za-z0-9_]*{re.escape(match[4])}"
