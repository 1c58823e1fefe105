"""The running mount's socket: server and client.

A Unix socket in the mount's cache folder, for its owner and root alone. One connection is one request: the client
sends a line of JSON, `{"do": NAME, …}`; the server answers with any number of lines `{"progress": {…}}`, at least one
in `QUIET_S`, and a last line `{"done": {…}}` or `{"error": {"message": …, "exit_code": …}}`.

`Server.run` is the body of one thread; the requests run on the executor given. Nothing here is durable.
"""

from __future__ import annotations

import json
import logging
import os
import socket
import struct
from collections.abc import Callable, Generator, Iterator, Mapping
from concurrent.futures import Executor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from drivefs.errors import DrivefsError, SignInNeeded, StoreError, TimedOut, UsageError, UserError

log = logging.getLogger(__name__)

Json = dict[str, Any]
Handler = Callable[[Json], Generator[Json, None, Json]]
"""Yields progress objects and returns the final one; raises DrivefsError. Closed early when the client goes away."""

SOCKET_NAME = "control"
QUIET_S = 30.0
"""A client that hears nothing for this long gives up: the process hangs."""
REQUEST_LIMIT_BYTES = 1 << 20
_PEER_CREDENTIALS = struct.Struct("3i")  # struct ucred of unix(7): pid, uid, gid


@contextmanager
def _short_address(folder: Path) -> Iterator[str]:
    """An address of the folder's socket that fits into the 108 bytes of unix(7), however deep the folder lies."""
    fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield f"/proc/self/fd/{fd}/{SOCKET_NAME}"
    finally:
        os.close(fd)


class Server:
    """Answers for one mount. The caller holds the cache folder's lock, so a socket found there is a dead one's."""

    def __init__(self, folder: Path, handlers: Mapping[str, Handler], executor: Executor) -> None:
        """Binds the socket; raises StoreError."""
        self._path = folder / SOCKET_NAME
        self._handlers = handlers
        self._executor = executor
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            self._path.unlink(missing_ok=True)
            with _short_address(folder) as address:
                self._socket.bind(address)
            self._path.chmod(0o600)
            self._socket.listen(16)
        except OSError as error:
            self._socket.close()
            raise StoreError(f"The socket {self._path} cannot be made: {error.strerror}.") from error

    def run(self) -> None:
        """Accept requests until `close`."""
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return  # closed
            if _peer(connection)[1] not in (0, os.geteuid()):
                connection.close()
                continue
            try:
                self._executor.submit(self._answer, connection)
            except RuntimeError:  # the executor has been shut down: the mount is ending
                connection.close()
                return

    def close(self) -> None:
        """Take no more requests; those under way go on."""
        # accept(2) in the other thread returns with EINVAL; already closed is as good.
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._path.unlink(missing_ok=True)

    def _answer(self, connection: socket.socket) -> None:
        with connection:
            connection.settimeout(QUIET_S)
            try:
                self._converse(connection)
            except OSError as error:
                log.debug("A control client went away: %s", error)

    def _converse(self, connection: socket.socket) -> None:
        try:
            with connection.makefile("rb") as lines:
                line = lines.readline(REQUEST_LIMIT_BYTES)
            if not line:
                return  # somebody wanted to know whether we are here
            request = json.loads(line)
            handler = self._handlers[request["do"]]
        except (ValueError, KeyError, TypeError):
            _send(connection, {"error": {"message": "This drivefs does not know the request.", "exit_code": 1}})
            return
        steps = handler(request)
        try:
            while True:
                try:
                    progress = next(steps)
                except StopIteration as end:
                    _send(connection, {"done": end.value})
                    return
                _send(connection, {"progress": progress})
        except DrivefsError as error:
            code = error.exit_code if isinstance(error, UserError) else 1
            _send(connection, {"error": {"message": str(error), "exit_code": code}})
        except OSError:
            raise
        except Exception:
            log.exception("The request %s failed", request["do"])
            _send(connection, {"error": {"message": "The mount failed to answer; its log says why.", "exit_code": 1}})
        finally:
            steps.close()


def _send(connection: socket.socket, message: Json) -> None:
    connection.sendall(json.dumps(message).encode() + b"\n")


class Ended(UserError):
    """The mount's process ended before it had answered."""


class Client:
    """A running mount. Each request is a connection of its own."""

    def __init__(self, folder: Path, pid: int) -> None:
        self._folder = folder
        self.pid = pid
        """Of the process behind the mount."""

    def ask(self, do: str, on_progress: Callable[[Json], None] | None = None, **arguments: Any) -> Json:
        """Make a request, and wait for its end. Raises UserError as the mount said, or when it does not answer."""
        try:
            with _connected(self._folder) as connection, connection.makefile("rb") as lines:
                connection.settimeout(QUIET_S)
                _send(connection, {"do": do, **arguments})
                for line in lines:
                    message = json.loads(line)
                    if "progress" in message:
                        if on_progress is not None:
                            on_progress(message["progress"])
                    elif "error" in message:
                        raise told_error(message["error"])
                    else:
                        done: Json = message["done"]
                        return done
        except TimeoutError:
            raise UserError(
                f"The drivefs process {self.pid} does not answer; what was written is safe in its cache. "
                f"'kill {self.pid}' ends it, mount again to go on."
            ) from None
        except (OSError, ValueError):
            raise self._ended() from None
        raise self._ended()

    def _ended(self) -> Ended:
        return Ended(
            f"The drivefs process {self.pid} ended before it had answered; what was written is safe in its cache, "
            "mount again to go on."
        )


def told_error(error: Mapping[str, Any]) -> UserError:
    """The error that another process of drivefs tells by its `message` and `exit_code`."""
    kinds: dict[int, type[UserError]] = {kind.exit_code: kind for kind in (UsageError, TimedOut, SignInNeeded)}
    return kinds.get(error["exit_code"], UserError)(error["message"])


def connect(folder: Path) -> Client | None:
    """The mount that has this cache folder; None when no process answers there."""
    try:
        with _connected(folder) as connection:
            return Client(folder, _peer(connection)[0])
    except OSError:
        return None


def _connected(folder: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _short_address(folder) as address:
            connection.connect(address)
    except BaseException:
        connection.close()
        raise
    return connection


def _peer(connection: socket.socket) -> tuple[int, int]:
    """Process and user at the other end."""
    found = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER_CREDENTIALS.size)
    pid, uid, _ = _PEER_CREDENTIALS.unpack(found)
    return pid, uid
