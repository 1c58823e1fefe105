"""The emulator's faults, quota, log and line: what each does, and that it does no more."""

from __future__ import annotations

import os
import time
from typing import Any

import pytest
import urllib3

from drivefs.emulator import Running
from drivefs.emulator.client import AdminError
from drivefs.emulator.errors import ApiError
from drivefs.emulator.quota import Quota
from tests.emulator_support import GRAIN, Api


def test_an_error_is_answered_instead_of_the_effect(api: Api, emulator: Running) -> None:
    emulator.admin.add_fault(
        "error", api="drive.files.create", status=403, reason="rateLimitExceeded", retry_after_s=7, count=1
    )
    refused = api.call("POST", "files", {"name": "refused"})
    assert (refused.status, refused.reason, refused.headers["Retry-After"]) == (403, "rateLimitExceeded", "7")
    assert refused.json["error"]["errors"][0]["domain"] == "usageLimits"
    assert api.names("name = 'refused'") == []
    assert api.call("POST", "files", {"name": "refused"}).status == 200
    (rule,) = emulator.admin.faults()
    assert (rule["matched"], rule["struck"]) == (1, 1)


def test_a_lost_reply_has_had_its_effect(api: Api, emulator: Running) -> None:
    (before, after) = api.ids(2)
    emulator.admin.add_fault("reset_before", api="drive.files.create", count=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.call("POST", "files", {"id": before, "name": "n"})
    emulator.admin.clear_faults()
    emulator.admin.add_fault("reset_after", api="drive.files.create", count=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.call("POST", "files", {"id": after, "name": "n"})
    assert api.get(f"files/{before}").status == 404
    assert api.get(f"files/{after}").status == 200
    emulator.admin.add_fault("error_after", api="drive.files.delete", status=503, count=1)
    assert api.call("DELETE", f"files/{after}").status == 503
    assert api.get(f"files/{after}").status == 404


def _statuses(api: Api, count: int) -> list[int]:
    return [api.get("files/root").status for _ in range(count)]


def test_rules_choose_the_nth_the_every_nth_and_by_chance(api: Api, emulator: Running) -> None:
    admin = emulator.admin
    number = admin.add_fault("error", path="files/root", status=500, skip=2, count=1)
    assert _statuses(api, 5) == [200, 200, 500, 200, 200]
    admin.clear_faults(number)
    admin.add_fault("error", verb="GET", status=500, every=3)
    assert _statuses(api, 6) == [200, 200, 500, 200, 200, 500]
    admin.clear_faults()
    admin.add_fault("error", status=500, probability=0.5, seed=3)
    first = _statuses(api, 30)
    admin.clear_faults()
    admin.add_fault("error", status=500, probability=0.5, seed=3)
    assert first == _statuses(api, 30)
    assert 5 < first.count(500) < 25


def test_a_rule_that_is_none_is_refused(emulator: Running) -> None:
    for rule in ({"action": "explode"}, {"action": "error", "colour": "red"}):
        with pytest.raises(AdminError):
            emulator.admin.add_fault(**rule)


def test_a_rule_waits_for_a_request_that_can_suffer_it(api: Api, emulator: Running) -> None:
    file_id = api.file("d", b"content")["id"]
    emulator.admin.add_fault("truncate", bytes=2, count=1)
    emulator.admin.add_fault("expire_session", count=1)
    api.ok("GET", f"files/{file_id}")
    session = api.start({"name": "s"}, 1).headers["Location"]
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.get(f"files/{file_id}", alt="media")
    assert api.put(session, b"", "bytes */1").status == 404


def test_a_rule_may_be_for_one_account_or_for_tokens(api: Api, other: Api, emulator: Running) -> None:
    emulator.admin.add_fault("error", user="other@example.com", status=500)
    assert (api.get("files/root").status, other.get("files/root").status) == (200, 500)
    emulator.admin.add_fault("error", api="oauth.token", status=503)
    assert urllib3.request("POST", f"{emulator.endpoint}/token").status == 503


def test_a_thousand_sessions_may_wait(api: Api) -> None:
    sessions = [api.start({"name": "s"}, GRAIN + 1).headers["Location"] for _ in range(1100)]
    for session in sessions:
        assert api.put(session, bytes(GRAIN), f"bytes 0-{GRAIN - 1}/{GRAIN + 1}").status == 308
    assert api.put(sessions[0], b"x", f"bytes {GRAIN}-{GRAIN}/{GRAIN + 1}").status == 200


def test_a_stall_ends_when_the_client_gives_up(api: Api, emulator: Running) -> None:
    emulator.admin.add_fault("stall", api="drive.files.get", seconds=None, count=1)
    with pytest.raises(urllib3.exceptions.ReadTimeoutError):
        api.http.request(
            "GET",
            f"{emulator.endpoint}/drive/v3/files/root",
            headers={"Authorization": f"Bearer {api.token}"},
            timeout=0.3,
        )
    assert api.get("files/root").status == 200
    emulator.admin.add_fault("stall", api="drive.files.get", seconds=0.2, count=1)
    began_s = time.monotonic()
    assert api.get("files/root").status == 200
    assert time.monotonic() - began_s >= 0.2


def test_only_part_of_a_chunk_is_kept(api: Api, emulator: Running) -> None:
    content = os.urandom(4 * GRAIN)
    session = api.start({"name": "part"}, len(content), fields="size").headers["Location"]
    emulator.admin.add_fault("partial", api="upload.chunk", bytes=GRAIN + 5, count=1)
    reply = api.put(session, content, f"bytes 0-{len(content) - 1}/{len(content)}")
    assert (reply.status, reply.headers["Range"]) == (308, f"bytes=0-{GRAIN - 1}")
    emulator.admin.clear_faults()
    emulator.admin.add_fault("partial", api="upload.chunk", bytes=2 * GRAIN, then="reset", count=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.put(session, content[GRAIN:], f"bytes {GRAIN}-{len(content) - 1}/{len(content)}")
    asked = api.put(session, b"", f"bytes */{len(content)}")
    assert asked.headers["Range"] == f"bytes=0-{3 * GRAIN - 1}"
    rest = api.put(session, content[3 * GRAIN :], f"bytes {3 * GRAIN}-{len(content) - 1}/{len(content)}")
    assert rest.json == {"size": str(len(content))}


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_expires_on_demand(api: Api, emulator: Running, status: int) -> None:
    session = api.start({"name": "gone"}, GRAIN).headers["Location"]
    emulator.admin.add_fault("expire_session", status=status, count=1)
    assert api.put(session, bytes(GRAIN), f"bytes 0-{GRAIN - 1}/{GRAIN}").status == status
    assert api.put(session, b"", f"bytes */{GRAIN}").status == 404


def test_downloads_are_spoiled(api: Api, emulator: Running) -> None:
    content = os.urandom(300_000)
    file_id = api.file("d", content)["id"]
    emulator.admin.add_fault("truncate", bytes=1000, count=1)
    with pytest.raises(urllib3.exceptions.ProtocolError):
        api.get(f"files/{file_id}", alt="media")
    emulator.admin.clear_faults()
    emulator.admin.add_fault("overlong", bytes=5, count=1)
    assert api.get(f"files/{file_id}", alt="media").data == content + bytes(5)
    emulator.admin.clear_faults()
    emulator.admin.add_fault("corrupt", offset=70_000, count=1)
    spoiled = api.get(f"files/{file_id}", alt="media").data
    assert [at for at in range(len(content)) if spoiled[at] != content[at]] == [70_000]
    assert api.get(f"files/{file_id}", alt="media").data == content


def test_replies_are_spoiled(api: Api, emulator: Running) -> None:
    emulator.admin.add_fault("wrong_md5", api="drive.files.create", count=1)
    reply = api.multipart({"name": "m"}, b"content", fields="id,md5Checksum").json
    assert reply["md5Checksum"] == "0" * 32
    assert api.ok("GET", f"files/{reply['id']}", fields="md5Checksum")["md5Checksum"] != "0" * 32
    emulator.admin.add_fault("incomplete", api="drive.files.list", count=1)
    assert api.ok("GET", "files")["incompleteSearch"] is True
    emulator.admin.add_fault("error", api="drive.changes.list", status=400, reason="invalid", location="pageToken")
    assert api.get("changes", pageToken="1").location == "pageToken"


def test_a_wrong_md5_comes_at_the_end_of_a_session_too(api: Api, emulator: Running) -> None:
    session = api.start({"name": "m"}, 3, fields="md5Checksum").headers["Location"]
    emulator.admin.add_fault("wrong_md5", api="upload.chunk")
    assert api.put(session, b"abc", "bytes 0-2/3").json == {"md5Checksum": "0" * 32}


# --- quota and log ---


def test_the_log_says_what_was_asked_and_what_it_cost(api: Api, emulator: Running) -> None:
    file_id = api.file("logged", bytes(1000))["id"]
    api.ok("GET", "files", q="name = 'logged'")
    api.get(f"files/{file_id}", alt="media")
    api.get("files/1missing")
    admin = emulator.admin
    entries = admin.requests()
    assert [(entry["method"], entry["status"], entry["units"]) for entry in entries] == [
        ("drive.files.create", 200, 50),
        ("drive.files.list", 200, 100),
        ("drive.files.get", 200, 200),
        ("drive.files.get", 404, 5),
    ]
    assert entries[0]["bytes_in"] > 1000
    assert (entries[2]["bytes_out"], entries[3]["reason"]) == (1000, "notFound")
    counters = admin.counters()
    assert (counters["requests"], counters["units"], counters["errors"]) == (4, 355, 1)
    assert counters["methods"]["drive.files.get"]["requests"] == 2
    assert api.token not in str(entries)


def test_secrets_of_sessions_are_not_in_the_log(api: Api, emulator: Running) -> None:
    session = api.start({"name": "s"}, 3).headers["Location"]
    api.put(session, b"abc", "bytes 0-2/3")
    assert session.partition("upload_id=")[2] not in str(emulator.admin.requests())


def test_quota_refuses_what_is_too_much_and_charges_nothing_for_it() -> None:
    now_s = [0.0]
    quota = Quota(600, None, clock=lambda: now_s[0])
    for _ in range(6):
        quota.spend(1, 100)
    with pytest.raises(ApiError) as caught:
        quota.spend(1, 100)
    assert (caught.value.status, caught.value.reason) == (403, "userRateLimitExceeded")
    quota.spend(2, 100)
    now_s[0] = 10.0
    quota.spend(1, 100)
    with pytest.raises(ApiError):
        quota.spend(1, 1)


def test_quota_and_creates_are_limited_over_the_wire(api: Api, emulator: Running) -> None:
    try:
        emulator.admin.set_quota(units_per_minute=205)
        assert api.get("files").status == api.get("files").status == 200
        refused = api.get("files")
        assert (refused.status, refused.reason) == (403, "userRateLimitExceeded")
        emulator.admin.set_quota(units_per_minute=10**9, creates_per_s=2)
        statuses = [api.call("POST", "files", {"name": "n"}).status for _ in range(4)]
        assert statuses[:2] == [200, 200]
        assert 403 in statuses
    finally:
        emulator.admin.set_quota(units_per_minute=10**9, creates_per_s=None)


# --- the line ---


def _timed(call: Any) -> float:
    began_s = time.monotonic()
    call()
    return time.monotonic() - began_s


def test_latency_is_added_once_a_request(api: Api, emulator: Running) -> None:
    emulator.admin.set_network(latency_s=0.1)
    assert 0.3 <= _timed(lambda: _statuses(api, 3)) < 0.6


def test_bandwidth_holds_in_both_directions_and_for_each_connection(api: Api, emulator: Running) -> None:
    content = os.urandom(4_000_000)
    session = api.start({"name": "paced"}, len(content), fields="id").headers["Location"]
    emulator.admin.set_network(bandwidth_bytes_s=8e6)
    made = {}

    def upload() -> None:
        made.update(api.put(session, content, f"bytes 0-{len(content) - 1}/{len(content)}").json)

    assert 0.49 <= _timed(upload) < 0.8
    assert 0.49 <= _timed(lambda: api.get(f"files/{made['id']}", alt="media")) < 0.8
    emulator.admin.set_network(bandwidth_bytes_s=None, shared_bandwidth_bytes_s=8e6)
    assert 0.49 <= _timed(lambda: api.get(f"files/{made['id']}", alt="media")) < 0.8


def test_a_paced_upload_is_slowed_from_its_first_bytes(api: Api, emulator: Running) -> None:
    content = bytes(24_000_000)
    session = api.start({"name": "held"}, len(content)).headers["Location"]
    emulator.admin.set_network(bandwidth_bytes_s=20e6)
    sent_s: list[float] = []
    began_s = time.monotonic()

    def pieces() -> Any:
        for at in range(0, len(content), 1_000_000):
            yield content[at : at + 1_000_000]
            sent_s.append(time.monotonic() - began_s)

    reply = api.http.request(
        "PUT",
        session,
        body=pieces(),
        headers={"Content-Length": str(len(content)), "Content-Range": f"bytes 0-{len(content) - 1}/{len(content)}"},
    )
    assert reply.status == 200
    # Ahead of the line by no more than what the sender's own kernel buffers (4 MB on loopback).
    assert sent_s[11] > (12 - 6) / 20
    assert time.monotonic() - began_s >= 1.19
