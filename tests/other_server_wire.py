"""How the other Drive speaks: HTTP with as many liberties as the standard gives, field masks, and the query language.

A thread a connection; what a request means is `tests.other_server`'s matter.
"""

from __future__ import annotations

import gzip
import json
import random
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass(frozen=True, slots=True)
class Habits:
    """How the server behaves; a share is that of replies, from 0 to 1."""

    seed: int = 1
    page_limit: int = 37
    close_share: float = 0.1
    chunked_share: float = 0.4
    kept_short_share: float = 0.3
    lost_reply_share: float = 0.0  # 5xx after the request has worked
    fault_share: float = 0.0  # 5xx before
    rate_limit_share: float = 0.0
    idle_s: float = 30.0  # a connection that rests longer is dropped
    feed_lag_s: float = 1.0
    search_lag_s: float = 3.0
    token_life_s: float = 3600.0  # the token says an hour, whatever is true
    head_revisions: bool = True


class Refusal(Exception):
    """A reply that is an error."""

    def __init__(self, status: int, reason: str, **headers: str) -> None:
        super().__init__(reason)
        self.status, self.reason, self.headers = status, reason, headers


@dataclass(slots=True)
class Reply:
    status: int
    value: Any = None  # JSON, or bytes of a file
    headers: dict[str, str] = field(default_factory=dict)


Answer = Callable[[str, str, dict[str, str], bytes], Reply]
"""Method, target, headers by lower-case name, body. Raises Refusal."""


# --- HTTP ---


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that goes away is nothing to speak of; the rest is a bug of the server."""
        if not isinstance(sys.exc_info()[1], ConnectionError):
            super().handle_error(request, client_address)


def serve(habits: Habits, answer: Answer) -> ThreadingHTTPServer:
    """Bound to a port of its own; `serve_forever` is the caller's."""
    bound = {
        "habits": habits,
        "answer": staticmethod(answer),
        "timeout": habits.idle_s,
        "luck": random.Random(habits.seed),
    }
    return _Server(("127.0.0.1", 0), type("_Bound", (_Handler,), bound))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    habits: Habits
    answer: Answer
    luck: random.Random

    def _handle(self) -> None:
        headers = {name.lower(): value for name, value in self.headers.items()}
        body = self._body(headers)
        try:
            reply = self.answer(self.command, self.path, headers, body)
        except Refusal as refusal:
            reply = self._refused(refusal)
        accepts_gzip = "gzip" in headers.get("accept-encoding", "")
        self._send(reply, accepts_gzip and "range" not in headers)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _handle  # names that http.server calls

    def _body(self, headers: dict[str, str]) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return self.rfile.read(int(headers.get("content-length", 0)))
        data = b""
        while size := int(self.rfile.readline().split(b";")[0], 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        return data

    def _refused(self, refusal: Refusal) -> Reply:
        entry = {"domain": "global", "reason": refusal.reason, "message": "No."}
        error = {"errors": [entry], "code": refusal.status, "message": "No."}
        return Reply(refusal.status, {"error": error}, refusal.headers)

    def _send(self, reply: Reply, may_gzip: bool) -> None:
        is_json = not isinstance(reply.value, bytes)
        body = json.dumps(reply.value, indent=1).encode() if is_json else reply.value
        headers = {"Content-Type": "application/json; charset=UTF-8" if is_json else "text/plain", **reply.headers}
        headers |= {"X-Content-Type-Options": "nosniff", "Vary": "Origin"}
        if reply.status == 204:
            body = b""
        elif may_gzip and body and self.luck.random() < 0.7:
            body, headers["Content-Encoding"] = gzip.compress(body, 1), "gzip"
        chunked = reply.status not in (204, 308) and bool(body) and self.luck.random() < self.habits.chunked_share
        if chunked:
            headers["Transfer-Encoding"] = "chunked"
        elif reply.status != 204:
            headers["Content-Length"] = str(len(body))
        if self.luck.random() < self.habits.close_share:
            headers["Connection"] = "close"
        self.send_response_only(reply.status)
        style = self.luck.choice((str.lower, str.upper, str.title, str.swapcase))
        for name, value in headers.items():
            self.send_header(name, value)  # notices that a connection is to be closed
        self._headers_buffer = [self._restyled(line, style) for line in self._headers_buffer]
        self.end_headers()
        if chunked:
            step = max(1, len(body) // 3)
            for start in range(0, len(body), step):
                piece = body[start : start + step]
                self.wfile.write(b"%X\r\n%s\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.wfile.write(body)
        self.wfile.flush()

    def _restyled(self, line: bytes, style: Callable[[str], str]) -> bytes:
        name, colon, rest = line.partition(b": ")
        return style(name.decode()).encode() + colon + rest if colon else line

    def log_message(self, format: str, *args: object) -> None:
        """Says nothing."""


# --- field masks ---


def parse_mask(text: str) -> dict[str, Any]:
    """`a,b(c,d/e)` as nested names; no names below one mean all of it."""
    top: dict[str, Any] = {}
    stack, current = [top], top
    path = top
    for word in re.findall(r"[\w*]+|[(),/]", text):
        if word == "(":
            stack.append(current)
            path = current
        elif word == ")":
            stack.pop()
            path = stack[-1]
        elif word == ",":
            path = stack[-1]
        elif word == "/":
            path = current
        else:
            current = path.setdefault(word, {})
    if len(stack) != 1:
        raise Refusal(400, "invalidParameter")
    return top


def apply_mask(mask: dict[str, Any], value: Any) -> Any:
    if not mask or "*" in mask:
        return value
    if isinstance(value, list):
        return [apply_mask(mask, each) for each in value]
    return {key: apply_mask(mask[key], value[key]) for key in value if key in mask}


# --- the query language ---

Test = Callable[[dict[str, Any]], bool]


def parse_query(text: str, root: str) -> Test:
    """The test of a File that `q` is; of what the language has, that which clients use."""
    pattern = r"'(?:\\.|[^'\\])*'|[\w.]+|[<>!]=|[=<>(){}]|\S"
    return _Query(re.findall(pattern, text), root).read() if text.strip() else lambda file: True


class _Query:
    def __init__(self, words: list[str], root: str) -> None:
        self._words, self._root = words, root

    def read(self) -> Test:
        test = self._either()
        if self._words:
            raise Refusal(400, "invalid")
        return test

    def _next(self, *wanted: str) -> str:
        if not self._words or (wanted and self._words[0] not in wanted):
            raise Refusal(400, "invalid")
        return self._words.pop(0)

    def _is_next(self, word: str) -> bool:
        found = self._words[:1] == [word]
        if found:
            self._words.pop(0)
        return found

    def _either(self) -> Test:
        tests = [self._both()]
        while self._is_next("or"):
            tests.append(self._both())
        return lambda file: any(test(file) for test in tests)

    def _both(self) -> Test:
        tests = [self._one()]
        while self._is_next("and"):
            tests.append(self._one())
        return lambda file: all(test(file) for test in tests)

    def _one(self) -> Test:
        if self._is_next("not"):
            test = self._one()
            return lambda file: not test(file)
        if self._is_next("("):
            inner = self._either()
            self._next(")")
            return inner
        return self._comparison(self._next())

    def _comparison(self, word: str) -> Test:
        if word.startswith("'"):
            self._next("in")
            place, value = self._next("parents", "owners", "writers", "readers"), _unquoted(word)
            parent = self._root if value == "root" else value
            return lambda file: parent in file.get("parents", []) if place == "parents" else True
        if word in ("trashed", "starred", "sharedWithMe"):
            sign, wanted = self._next("=", "!="), self._next("true", "false") == "true"
            return lambda file: (file.get(word, False) == wanted) == (sign == "=")
        if word in ("appProperties", "properties"):
            self._next("has")
            found = [self._next() for _ in range(9)]  # { key = 'k' and value = 'v' }
            key, value = _unquoted(found[3]), _unquoted(found[7])
            return lambda file: file.get(word, {}).get(key) == value
        if word not in ("name", "mimeType", "modifiedTime", "createdTime"):
            raise Refusal(400, "invalid")
        sign, value = self._next("=", "!=", "<", "<=", ">", ">=", "contains"), _unquoted(self._next())
        return lambda file: _compared(file[word].lower(), sign, value.lower())


def _compared(one: str, sign: str, other: str) -> bool:
    results = {"=": one == other, "!=": one != other, "<": one < other, "<=": one <= other, ">": one > other}
    return {**results, ">=": one >= other, "contains": one.startswith(other)}[sign]


def _unquoted(word: str) -> str:
    if len(word) < 2 or word[0] != "'":
        raise Refusal(400, "invalid")
    return re.sub(r"\\(.)", r"\1", word[1:-1])
