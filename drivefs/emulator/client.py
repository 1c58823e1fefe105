"""For tests and tools: start an emulator as a process of its own, and talk to its admin endpoint.

`Admin` may be used by several threads at once.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3

from drivefs.emulator.command import arguments_of
from drivefs.emulator.options import Options

_START_S = 30.0
_STOP_S = 10.0


class AdminError(Exception):
    """The emulator refused; the message is what it said."""


class Admin:
    """The admin endpoint of one emulator. Paths are names below My Drive, joined by `/`."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint.rstrip("/")
        self._http = urllib3.PoolManager(maxsize=4, retries=False)

    def close(self) -> None:
        self._http.clear()

    # --- settings ---

    def set_network(self, **settings: float | None) -> dict[str, Any]:
        """`latency_s`, `bandwidth_bytes_s`, `shared_bandwidth_bytes_s`; None takes the limit away."""
        return self._object("PUT", "network", settings)

    def set_quota(self, **settings: float | None) -> dict[str, Any]:
        """`units_per_minute`, `creates_per_s`, `storage_bytes`; fills the buckets."""
        return self._object("PUT", "quota", settings)

    def add_fault(self, action: str, **rule: Any) -> int:
        """A rule as `drivefs.emulator.faults` describes it; its number."""
        return int(self._object("POST", "faults", {"action": action, **rule})["id"])

    def clear_faults(self, number: int | None = None) -> None:
        """Take back one rule, or all."""
        self._call("DELETE", "faults", {} if number is None else {"id": str(number)})

    def faults(self) -> list[dict[str, Any]]:
        """The rules, with how often each `matched` and `struck`."""
        return self._list("GET", "faults")

    # --- what was asked ---

    def requests(self, after: int = 0, method: str = "") -> list[dict[str, Any]]:
        """The log's entries after number `after`, of one method where it is given."""
        return self._list("GET", "requests", {"after": str(after), "method": method})

    def counters(self) -> dict[str, Any]:
        """`requests`, `errors`, `units`, `bytes_in`, `bytes_out` in all, and under `methods` by method."""
        return self._object("GET", "counters")

    def reset_counters(self) -> None:
        """Empty the log, and fill the quota's buckets."""
        self._call("POST", "reset")

    # --- files, without the API and its log ---

    def put_file(self, path: str, data: bytes, **query: str) -> dict[str, Any]:
        """Create the file, or give it new content; folders on the way are made. `account`, `mimeType`,
        `modifiedTime` as asked, `new="1"` for a second file of the same name."""
        return self._object("PUT", "files", data, {"path": path, **query})

    def make_folder(self, path: str, **query: str) -> str:
        """The folder's ID; it may be there already."""
        return str(self._object("POST", "folders", None, {"path": path, **query})["id"])

    def fill_folder(self, path: str, files: int, **query: str) -> None:
        """Make many empty files, `f0000000` and so on, in a folder, which is made too."""
        self._object("POST", "fill", None, {"path": path, "files": str(files), **query})

    def get_file(self, path: str, **query: str) -> dict[str, Any]:
        """The item with all fields."""
        return self._object("GET", "files", None, {"path": path, **query})

    def read_file(self, path: str, **query: str) -> bytes:
        """The content."""
        return self._call("GET", "content", {"path": path, **query})

    def delete_file(self, path: str, **query: str) -> None:
        self._call("DELETE", "files", {"path": path, **query})

    def tree(self, *, trashed: bool = False, **query: str) -> list[dict[str, Any]]:
        """All items of the account, each with `path`, size and checksums."""
        return self._list("GET", "tree", {**query, **({"trashed": "1"} if trashed else {})})

    # --- sign-in and sessions ---

    def token(self, **request: str) -> str:
        """An access token; `account`, `client`, `scopes` (in full, blank between) as asked."""
        return str(self._object("POST", "token", request)["access_token"])

    def expire_tokens(self) -> int:
        """Let all access tokens expire; how many there were."""
        return int(self._object("POST", "expire-tokens")["expired"])

    def revoke_tokens(self) -> int:
        """Take back all refresh tokens too: `invalid_grant` from now on."""
        return int(self._object("POST", "revoke-tokens")["revoked"])

    def expire_sessions(self) -> int:
        """Forget all upload sessions that are not complete; how many there were."""
        return int(self._object("POST", "expire-sessions")["expired"])

    def sessions(self) -> list[dict[str, Any]]:
        """Upload sessions without their secrets: `body`, `file`, `total`, `received` bytes so far, `done`."""
        return self._list("GET", "sessions")

    def add_account(self, email: str) -> dict[str, Any]:
        return self._object("POST", "accounts", {"email": email})

    def service_account(self) -> Path:
        """Path of a service account's key file."""
        return Path(self._object("POST", "service-account")["path"])

    def client_secrets(self) -> dict[str, Any]:
        """What an installed app's client_secrets.json would say."""
        return self._object("GET", "client-secrets")

    # --- the wire ---

    def _object(
        self, verb: str, action: str, body: Any = None, query: dict[str, str] | None = None
    ) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self._call(verb, action, query, body))
        return found

    def _list(self, verb: str, action: str, query: dict[str, str] | None = None) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self._call(verb, action, query))
        return found

    def _call(self, verb: str, action: str, query: dict[str, str] | None = None, body: Any = None) -> bytes:
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        url = f"{self.endpoint}/_admin/{action}"
        if query:
            url += "?" + urlencode(query)
        reply = self._http.request(verb, url, body=data, timeout=600.0)
        if reply.status >= 400:
            raise AdminError(reply.data.decode("utf-8", "replace"))
        return reply.data


@dataclass
class Running:
    """An emulator in a process of its own."""

    process: subprocess.Popen[bytes]
    ready: dict[str, Any]
    admin: Admin = field(init=False)

    def __post_init__(self) -> None:
        self.admin = Admin(self.endpoint)

    @property
    def endpoint(self) -> str:
        """Root URL of the API."""
        return str(self.ready["endpoint"])

    @property
    def credentials_file(self) -> Path:
        """Authorized-user file of the first account."""
        return Path(self.ready["credentials"])

    def credentials_of(self, account: str) -> Path:
        return Path(self.ready["accounts"][account])

    @property
    def proxy(self) -> str:
        """URL for HTTPS_PROXY."""
        return str(self.ready["proxy"])

    @property
    def ca_file(self) -> Path:
        """Certificate of the proxy's authority."""
        return Path(self.ready["ca"])

    def stop(self, *, kill: bool = False) -> int:
        """End it, by SIGKILL if asked; its exit code."""
        self.admin.close()
        if kill:
            self.process.kill()
        else:
            self.process.terminate()
        try:
            code = self.process.wait(_STOP_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            code = self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()
        return code


def start(options: Options) -> Running:
    """Start an emulator; returns when it answers. What it logs goes to our standard error."""
    process = subprocess.Popen(
        [sys.executable, "-m", "drivefs.emulator", *arguments_of(options)],
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(entry or "." for entry in sys.path)},
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        process.stdout.close()
        raise RuntimeError(f"the emulator ended with {process.wait(_START_S)} before it answered")
    return Running(process, json.loads(line))


@contextmanager
def running(options: Options | None = None) -> Iterator[Running]:
    """An emulator for the length of a block."""
    emulator = start(options or Options())
    try:
        yield emulator
    finally:
        emulator.stop()
