"""The control socket: what a client hears, whatever the mount's process does."""

from __future__ import annotations

import socket
import stat
import threading
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from drivefs import control
from drivefs.control import Handler, Json, Server, connect
from drivefs.errors import SignInNeeded, TimedOut, UserError


def count(request: Json) -> Generator[Json, None, Json]:
    for at in range(request["up_to"]):
        yield {"at": at}
    return {"last": request["up_to"]}


def raising(error: Exception) -> Handler:
    def handler(request: Json) -> Generator[Json, None, Json]:
        yield {}
        raise error

    return handler


@contextmanager
def serving(folder: Path, **handlers: Handler) -> Iterator[None]:
    with ThreadPoolExecutor(4) as executor:
        server = Server(folder, handlers, executor)
        thread = threading.Thread(target=server.run)
        thread.start()
        try:
            yield
        finally:
            server.close()
            thread.join()


def ask(folder: Path, do: str, on_progress: Callable[[Json], None] | None = None, **arguments: object) -> Json:
    client = connect(folder)
    assert client is not None
    return client.ask(do, on_progress, **arguments)


def test_control_tells_progress_in_order_and_then_the_result(tmp_path: Path) -> None:
    heard: list[Json] = []
    with serving(tmp_path, count=count):
        assert ask(tmp_path, "count", heard.append, up_to=3) == {"last": 3}
    assert heard == [{"at": 0}, {"at": 1}, {"at": 2}]


def test_control_serves_several_clients_at_once(tmp_path: Path) -> None:
    meeting = threading.Barrier(3, timeout=10)

    def meet(request: Json) -> Generator[Json, None, Json]:
        meeting.wait()
        yield {}
        return {}

    with serving(tmp_path, meet=meet), ThreadPoolExecutor(3) as clients:
        results = [clients.submit(ask, tmp_path, "meet") for _ in range(3)]
        assert [result.result() for result in results] == [{}, {}, {}]


@pytest.mark.parametrize("error", [UserError("No."), TimedOut("Later."), SignInNeeded("Who?")])
def test_control_raises_at_the_client_what_the_mount_raised(tmp_path: Path, error: UserError) -> None:
    with serving(tmp_path, fail=raising(error)), pytest.raises(type(error), match=str(error)) as caught:
        ask(tmp_path, "fail")
    assert caught.value.exit_code == error.exit_code


def test_control_hides_what_was_not_foreseen_and_logs_it(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path, fail=raising(ValueError("secret"))), pytest.raises(UserError) as caught:
        ask(tmp_path, "fail")
    assert "secret" not in str(caught.value)
    assert "secret" in caplog.text


@pytest.mark.parametrize("line", [b"\n", b"not json\n", b'{"do": "dance"}\n', b"[]\n", b"5\n", b"\xff\n"])
def test_control_answers_a_request_that_makes_no_sense(tmp_path: Path, line: bytes) -> None:
    with serving(tmp_path, count=count), socket.socket(socket.AF_UNIX) as client:
        client.connect(str(tmp_path / control.SOCKET_NAME))
        client.sendall(line)
        client.shutdown(socket.SHUT_WR)
        assert b'"error"' in client.makefile("rb").readline()


def test_control_ends_a_request_whose_client_went_away(tmp_path: Path) -> None:
    closed = threading.Event()

    def endless(request: Json) -> Generator[Json, None, Json]:
        try:
            while True:
                yield {"filler": "x" * 65536}
        finally:
            closed.set()

    with serving(tmp_path, endless=endless):
        client = connect(tmp_path)
        assert client is not None

        def leave(_: Json) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            client.ask("endless", leave)
        assert closed.wait(10)


def test_client_is_none_where_nobody_answers(tmp_path: Path) -> None:
    assert connect(tmp_path) is None
    assert connect(tmp_path / "missing") is None
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.SOCKET_NAME))
    assert connect(tmp_path) is None


def test_server_takes_the_place_of_a_dead_one(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / control.SOCKET_NAME))
    with serving(tmp_path, count=count):
        assert ask(tmp_path, "count", up_to=0) == {"last": 0}
    assert not (tmp_path / control.SOCKET_NAME).exists()


@contextmanager
def stub(folder: Path, answer: bytes, ended: threading.Event) -> Iterator[None]:
    """A process that takes a request, sends these bytes, and goes once `ended` is set."""

    def run() -> None:
        server.accept()[0].close()  # `connect` only wants to know whether it is there
        connection, _ = server.accept()
        with connection:
            connection.sendall(answer)
            ended.wait(10)

    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(folder / control.SOCKET_NAME))
        server.listen()
        thread = threading.Thread(target=run)
        thread.start()
        yield
        ended.set()
        thread.join()


def test_client_says_so_when_the_process_dies_under_it(tmp_path: Path) -> None:
    ended = threading.Event()
    ended.set()
    with stub(tmp_path, b'{"progress": {}}\n{"prog', ended), pytest.raises(UserError, match="safe in its cache"):
        ask(tmp_path, "count")


def test_client_gives_up_a_process_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(control, "QUIET_S", 0.05)
    with stub(tmp_path, b"", threading.Event()), pytest.raises(UserError, match="does not answer"):
        ask(tmp_path, "count")


def test_socket_is_for_its_owner_alone_and_may_lie_deep(tmp_path: Path) -> None:
    folder = tmp_path.joinpath(*["deep" * 10] * 5)
    folder.mkdir(parents=True)
    with serving(folder, count=count):
        assert stat.S_IMODE((folder / control.SOCKET_NAME).stat().st_mode) == 0o600
        assert ask(folder, "count", up_to=1) == {"last": 1}
