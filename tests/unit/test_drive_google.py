"""drivefs.drive.google: which calls are repeated, and how they go beside each other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import google.oauth2.credentials
import pytest

from drivefs.drive.api import Drive
from drivefs.drive.google import GoogleDrive
from drivefs.errors import (
    BadReply,
    DriveError,
    IdInUse,
    QueueBlocked,
    RateLimited,
    Refused,
    RemoteNotFound,
    ServerFault,
    SignInNeeded,
    Unreachable,
)
from drivefs.model import Priority
from tests.unit.drive_calls import (
    ANY,
    CREATE,
    FILE,
    PARENT,
    PATIENCE_S,
    SAID,
    UPDATE,
    Bytes,
    Opener,
    media,
)
from tests.unit.fake_clock import FakeClock
from tests.unit.scripted_server import Exchange, ScriptedServer, Step, answer, failing

# --- which calls are repeated ---

READING: dict[str, Callable[[Drive], object]] = {
    "get": lambda d: d.get(FILE),
    "about": lambda d: d.about(),
    "root_id": lambda d: d.root_id(),
    "list_children": lambda d: d.list_children([PARENT]),
    "list_all": lambda d: d.list_all(),
    "start_page_token": lambda d: d.start_page_token(),
    "changes": lambda d: d.changes("1"),
    "download": lambda d: b"".join(d.download(FILE, 0, 10)),
}
WRITING: dict[str, Callable[[Drive], object]] = {
    "create": lambda d: d.create(CREATE),
    "update": lambda d: d.update(UPDATE),
    "trash": lambda d: d.trash(FILE),
    "delete": lambda d: d.delete(FILE),
    "upload_small": lambda d: d.upload_small(CREATE, Bytes(b"0123456789")),
    "start_session": lambda d: d.start_session(CREATE, 10),
}
GOOD = {
    "download": media(b"0123456789"),
    "start_session": answer(200, b"", {"location": "/session"}),
    "delete": answer(204),
}


@pytest.mark.parametrize("name", READING)
@pytest.mark.parametrize("trouble", [failing(503, "backendError"), failing(500, ""), Exchange.reset, Exchange.close])
def test_reading_calls_are_repeated_after_trouble(name: str, trouble: Step, opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(trouble, trouble, GOOD.get(name, ANY)) as server:
        READING[name](opened(server))
        assert len(server.requests) == 3
    assert clock.now_s == 1000 + 1.5 + 2.5


@pytest.mark.parametrize("name", WRITING)
@pytest.mark.parametrize(
    ("trouble", "kind"),
    [(failing(503, "backendError"), ServerFault), (Exchange.reset, Unreachable), (Exchange.close, Unreachable)],
)
def test_writing_calls_are_not_repeated_when_they_may_have_worked(
    name: str, trouble: Step, kind: type[DriveError], opened: Opener
) -> None:
    with ScriptedServer(trouble, GOOD.get(name, ANY)) as server:
        with pytest.raises(kind):
            WRITING[name](opened(server))
        assert len(server.requests) == 1


@pytest.mark.parametrize("name", [*READING, *WRITING])
def test_all_calls_are_repeated_after_a_rate_limit(name: str, opened: Opener) -> None:
    limits = [failing(403, "userRateLimitExceeded"), failing(429, "rateLimitExceeded")]
    with ScriptedServer(*limits, GOOD.get(name, ANY)) as server:
        {**READING, **WRITING}[name](opened(server))
        assert len(server.requests) == 3
        if name == "upload_small":
            assert server.requests[0].body == server.requests[2].body


def test_calls_come_back_when_the_server_says(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(failing(429, "rateLimitExceeded", {"retry-after": "11"}), ANY) as server:
        opened(server).create(CREATE)
    assert clock.now_s == pytest.approx(1011, abs=2.5)


def test_calls_give_up_when_the_patience_is_over(opened: Opener, clock: FakeClock) -> None:
    for step, kind, call in (
        (failing(403, "userRateLimitExceeded"), RateLimited, WRITING["create"]),
        (failing(503, "backendError"), ServerFault, READING["get"]),
    ):
        began_s = clock.now_s
        with ScriptedServer(*[step] * 20) as server:
            with pytest.raises(kind):
                call(opened(server))
            assert 3 <= len(server.requests) <= 6
        assert clock.now_s - began_s <= PATIENCE_S


def test_changes_feed_fails_soon_so_that_being_offline_shows(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(*[Exchange.reset] * 20) as server:
        with pytest.raises(Unreachable):
            opened(server).at(Priority.CHANGES).changes("1")
        assert len(server.requests) >= 2  # one dropped connection is nothing to tell of
    assert clock.now_s - 1000 <= 3


def test_calls_give_up_at_once_when_asked_to_wait_beyond_the_patience(opened: Opener, clock: FakeClock) -> None:
    with ScriptedServer(failing(429, "rateLimitExceeded", {"retry-after": "3600"})) as server:
        drive = opened(server)
        with pytest.raises(RateLimited) as caught:
            drive.get(FILE)
        assert caught.value.retry_after_s == 3600
        with pytest.raises(RateLimited):
            drive.at(Priority.PUBLISH).list_all()
        assert len(server.requests) == 1
    assert clock.now_s == 1000


@pytest.mark.parametrize(
    ("status", "reason", "kind"),
    [
        (404, "notFound", RemoteNotFound),
        (403, "storageQuotaExceeded", QueueBlocked),
        (403, "insufficientFilePermissions", Refused),
        (409, "fileIdInUse", IdInUse),
    ],
)
def test_permanent_errors_come_out_at_once(status: int, reason: str, kind: type[DriveError], opened: Opener) -> None:
    with ScriptedServer(*[failing(status, reason)] * 2) as server:
        drive = opened(server)
        for call in (READING["get"], WRITING["create"]):
            with pytest.raises(kind) as caught:
                call(drive)
            assert caught.value.reason == reason
        assert len(server.requests) == 2


def test_removing_what_is_gone_is_no_error(opened: Opener) -> None:
    with ScriptedServer(*[failing(404, "notFound")] * 2) as server:
        opened(server).trash(FILE)
        opened(server).delete(FILE)


@pytest.mark.parametrize("body", [b"", b"<html>", b"[]", b'{"name": "no id"}', b"\xff"])
def test_nonsense_is_a_bad_reply(body: bytes, opened: Opener) -> None:
    with ScriptedServer(*[answer(200, body)] * 2) as server:
        for call in (READING["get"], WRITING["create"]):
            with pytest.raises(BadReply):
                call(opened(server))


def test_root_id_is_asked_once_for_all_views(opened: Opener) -> None:
    with ScriptedServer(answer(200, {"id": "ROOT"})) as server:
        drive = opened(server)
        assert drive.root_id() == drive.at(Priority.MIRROR).root_id() == drive.at(Priority.WARM).root_id() == "ROOT"


# --- the token ---


def expired_credentials(server: ScriptedServer) -> Any:
    later = (datetime.now(UTC) + timedelta(hours=1)).replace(tzinfo=None)
    return google.oauth2.credentials.Credentials(
        "old", refresh_token="r", token_uri=f"{server.url}/token", client_id="i", client_secret="s", expiry=later
    )


def test_rejected_token_is_renewed_and_the_call_repeated(opened: Opener) -> None:
    fresh = answer(200, {"access_token": "new", "expires_in": 3600})
    with ScriptedServer(failing(401, "authError"), fresh, ANY) as server:
        drive = opened(server, credentials=expired_credentials(server))
        drive.upload_small(CREATE, Bytes(b"0123456789"))
        first, _, again = server.requests
        assert (first.headers["authorization"], again.headers["authorization"]) == ("Bearer old", "Bearer new")
        assert first.body == again.body


def test_token_rejected_twice_needs_a_sign_in(opened: Opener) -> None:
    fresh = answer(200, {"access_token": "new", "expires_in": 3600})
    with ScriptedServer(failing(401, "authError"), fresh, failing(401, "authError")) as server:
        drive = opened(server, credentials=expired_credentials(server))
        with pytest.raises(SignInNeeded):
            drive.get(FILE)


def test_revoked_sign_in_needs_another(opened: Opener) -> None:
    revoked = answer(400, {"error": "invalid_grant"})
    with ScriptedServer(failing(401, "authError"), revoked) as server:
        drive = opened(server, credentials=expired_credentials(server))
        with pytest.raises(SignInNeeded, match="invalid_grant"):
            drive.create(CREATE)


# --- many at once ---


def test_views_share_slots_and_the_reader_goes_first(opened: Opener, clock: FakeClock) -> None:
    order: list[str] = []
    let_go = threading.Event()

    def first(exchange: Exchange) -> None:
        let_go.wait(10)
        exchange.reply(200, SAID)

    with ScriptedServer(first, ANY, ANY, ANY) as server:
        drive = opened(server, max_connections=2)

        def get(priority: Priority) -> None:
            drive.at(priority).get(FILE)
            order.append(priority.name)

        threads = []
        for priority in (Priority.WARM, Priority.SPECULATION, Priority.PUBLISH, Priority.READER):
            threads.append(threading.Thread(target=get, args=(priority,)))
            threads[-1].start()
            if len(threads) > 1:
                assert clock.queued.acquire(timeout=10)
            else:
                while not server.requests:
                    let_go.wait(0.01)
        let_go.set()
        for thread in threads:
            thread.join(10)
        assert len(order) == 4
        assert order.index("READER") < order.index("PUBLISH") < order.index("SPECULATION")


def test_closing_ends_calls_under_way_and_waiting(opened: Opener) -> None:
    arrived = threading.Event()
    errors: list[BaseException] = []

    def stall(exchange: Exchange) -> None:
        arrived.set()
        exchange.stall()

    with ScriptedServer(stall) as server:
        drive = opened(server, max_connections=1)

        def create() -> None:
            try:
                drive.create(CREATE)
            except DriveError as e:
                errors.append(e)

        threads = [threading.Thread(target=create) for _ in range(3)]
        for thread in threads:
            thread.start()
        assert arrived.wait(10)
        drive.close()
        for thread in threads:
            thread.join(3)
            assert not thread.is_alive()
        assert [type(e) for e in errors] == [Unreachable] * 3


def test_google_drive_is_a_drive() -> None:
    drive: Drive = GoogleDrive(google.oauth2.credentials.Credentials("t"), endpoint="http://127.0.0.1:1")
    drive.close()
