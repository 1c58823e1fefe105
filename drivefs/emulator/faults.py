"""Faults on demand: which requests, and what goes wrong with them.

A rule is a JSON object. It matches by `verb` and `path` (regular expressions), `api` (regular expression over the
method's ID, such as `drive.files.create`; chunks of a resumable upload are `upload.chunk`, its status queries
`upload.status`, tokens `oauth.token`), `user` (e-mail). Of what matches it takes, when given: all after the first
`skip`, every `every`-th, each with `probability` (reproducible by `seed`), and at most `count`.

`action` says what happens:
    error            `status`, `reason`, `message`, `retry_after_s`: refused, nothing done
    error_after      the same reply, although the request was carried out
    reset_before     connection reset, nothing done
    reset_after      carried out, then the connection is reset instead of the reply
    stall            nothing for `seconds` (null: for ever), then as usual; `when`: "before" (default) or "after"
    partial          of an upload's body only `bytes` are taken; `then`: "308" (default) or "reset"
    expire_session   the upload session is forgotten; `status` 404 (default) or 410
    truncate         a download ends `bytes` short of what its headers say
    overlong         a download has `bytes` more than the file
    corrupt          the byte at `offset` of a download is flipped
    wrong_md5        the reply names a checksum that is not the content's
    incomplete       a list says `incompleteSearch`
"""

from __future__ import annotations

import random
import re
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Any

from drivefs.emulator.errors import ApiError

ACTIONS = frozenset((
    "error", "error_after", "reset_before", "reset_after", "stall", "partial", "expire_session", "truncate",
    "overlong", "corrupt", "wrong_md5", "incomplete",
))  # fmt: skip
_KEYS = frozenset((
    "action", "verb", "path", "api", "user", "skip", "every", "probability", "seed", "count", "status", "reason",
    "message", "domain", "retry_after_s", "seconds", "when", "bytes", "then", "offset", "location",
))  # fmt: skip
# Actions that only some requests can suffer; a rule passes over the others without counting them.
_FIT = {
    "partial": "upload",
    "expire_session": "session",
    "truncate": "media",
    "overlong": "media",
    "corrupt": "media",
    "incomplete": "list",
}
_REASONS = {400: "badRequest", 401: "authError", 403: "userRateLimitExceeded", 404: "notFound", 410: "gone",
            429: "rateLimitExceeded", 500: "internalError", 502: "badGateway", 503: "backendError",
            504: "gatewayTimeout"}  # fmt: skip
_USAGE = ("rateLimitExceeded", "userRateLimitExceeded", "dailyLimitExceeded", "storageQuotaExceeded")


@dataclass(slots=True)
class Fault:
    """One rule, and how often it has matched and struck."""

    number: int
    rule: dict[str, Any]
    matched: int = 0
    struck: int = 0
    dice: random.Random = field(default_factory=random.Random)

    @property
    def action(self) -> str:
        return str(self.rule["action"])

    def error(self) -> ApiError:
        """What an `error` answers."""
        status = int(self.rule.get("status", 503))
        reason = self.rule.get("reason") or _REASONS.get(status, "backendError")
        retry = self.rule.get("retry_after_s")
        return ApiError(
            status,
            reason,
            self.rule.get("message") or reason,
            domain=self.rule.get("domain") or ("usageLimits" if reason in _USAGE else "global"),
            location=self.rule.get("location"),
            headers=None if retry is None else {"Retry-After": str(retry)},
        )


class Faults:
    """The rules in force; the first that strikes wins."""

    def __init__(self) -> None:
        self._rules: list[Fault] = []
        self._next = 1

    def add(self, rule: dict[str, Any]) -> int:
        """Number of the rule; ValueError when it is none."""
        if rule.get("action") not in ACTIONS:
            raise ValueError(f"action must be one of {', '.join(sorted(ACTIONS))}")
        unknown = set(rule) - _KEYS
        if unknown:
            raise ValueError(f"unknown keys: {', '.join(sorted(unknown))}")
        for key in ("verb", "path", "api"):
            re.compile(rule.get(key) or "")
        fault = Fault(self._next, dict(rule), dice=random.Random(rule.get("seed", 0)))
        self._rules.append(fault)
        self._next += 1
        return fault.number

    def clear(self, number: int | None = None) -> None:
        """Take back one rule, or all."""
        self._rules = [fault for fault in self._rules if number is not None and fault.number != number]

    def listing(self) -> list[dict[str, Any]]:
        return [
            {"id": fault.number, "matched": fault.matched, "struck": fault.struck, **fault.rule}
            for fault in self._rules
        ]

    def strike(self, verb: str, path: str, api: str, user: str = "", kinds: Set[str] = frozenset()) -> Fault | None:
        """The fault that befalls this request; `kinds` says for which of the special ones it is fit."""
        for fault in self._rules:
            rule = fault.rule
            if _FIT.get(fault.action, "") not in ("", *kinds):
                continue
            if not (
                re.fullmatch(rule.get("verb") or ".*", verb)
                and re.search(rule.get("path") or "", path)
                and re.fullmatch(rule.get("api") or ".*", api)
                and (not rule.get("user") or rule["user"] == user)
            ):
                continue
            if rule.get("count") is not None and fault.struck >= rule["count"]:
                continue
            fault.matched += 1
            past = fault.matched - int(rule.get("skip") or 0)
            if past < 1 or past % int(rule.get("every") or 1):
                continue
            if rule.get("probability") is not None and fault.dice.random() >= rule["probability"]:
                continue
            fault.struck += 1
            return fault
        return None
