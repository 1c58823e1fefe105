"""A mount's life: started, killed, kept supplied for minutes, told of what others do."""

from __future__ import annotations

import hashlib
import os
import random
import time

from bench.measured import Case, Limit, Measured, MiB, Network
from bench.systems import System, wait_until
from bench.verified import check_here, md5_of, on_drive, until_durable
from drivefs.emulator.client import Running


def start_up(system: System, emulator: Running) -> Measured:
    """From the command to the first answer, of a Drive that is known; and of one that is not."""

    def first_look_s() -> float:
        began = time.perf_counter()
        names = {entry.name for entry in system.folder.iterdir()}
        assert names == {"here"}, names
        return system.ready_s + time.perf_counter() - began

    found = {"first_time_s": first_look_s()}
    system.remount()
    found["seconds"] = first_look_s()
    assert (system.folder / "here").read_bytes() == b"before", "wrong bytes"
    return Measured(found)


def killed_upload(system: System, emulator: Running, size_bytes: int) -> Measured:
    """kill -9 when half of a file is on its way: what is sent twice, and how long until Drive has it."""
    data = os.urandom(size_bytes)
    emulator.admin.reset_counters()
    (system.folder / "large.bin").write_bytes(data)
    began = time.perf_counter()
    wait_until(lambda: _arrived(emulator) > size_bytes // 2)
    system.kill()
    until_durable(emulator, {"large.bin": md5_of(data)})
    found = {"durable_s": time.perf_counter() - began}
    found["twice_MB"] = max(0.0, (emulator.admin.counters()["bytes_in"] - size_bytes) / 1e6)
    items = [item for item in emulator.admin.tree(trashed=True) if item["name"].startswith("large")]
    assert len(items) == 1, f"{len(items)} items instead of one"
    assert (system.folder / "large.bin").read_bytes() == data, "wrong bytes"
    return Measured(found)


def _arrived(emulator: Running) -> int:
    """Bytes of uploads, those under way included."""
    under_way = sum(int(session.get("received", 0)) for session in emulator.admin.sessions())
    return max(under_way, int(emulator.admin.counters()["bytes_in"]))


def remote_edit(system: System, emulator: Running) -> Measured:
    """Somebody else writes a file that is known here: until it reads so."""
    path = system.folder / "here"
    after = path.read_bytes() + b", and longer"  # the runs before have changed it too
    emulator.admin.put_file("here", after)
    began = time.perf_counter()
    wait_until(lambda: path.read_bytes() == after)
    return Measured({"seconds": time.perf_counter() - began})


def _one_file(emulator: Running) -> None:
    emulator.admin.put_file("here", b"before")


def stream(system: System, emulator: Running, sets: int, size_bytes: int, every_s: float) -> Measured:
    """Checkpoints at a steady pace: does the queue keep up, and how long is the last one at risk?"""
    blocks = [random.Random(number).randbytes(MiB) for number in range(sets)]
    closed_s: dict[str, float] = {}
    wanted: dict[str, str] = {}
    began = time.perf_counter()
    at_risk: dict[str, float] = {}

    def look() -> None:
        held = on_drive(emulator)
        for name, checksum in wanted.items():
            if name in closed_s and name not in at_risk and held.get(name) == checksum:
                at_risk[name] = time.perf_counter() - closed_s[name]

    for number in range(sets):
        name = f"checkpoint-{number}.bin"
        digest = hashlib.md5(usedforsecurity=False)
        with open(system.folder / name, "wb", buffering=0) as file:
            for _ in range(size_bytes // MiB):
                file.write(blocks[number])
                digest.update(blocks[number])
        wanted[name], closed_s[name] = digest.hexdigest(), time.perf_counter()
        while time.perf_counter() < began + (number + 1) * every_s:
            look()
            time.sleep(0.05)  # the pace is what is asked for

    def done() -> bool:
        look()
        return len(at_risk) == sets

    behind = sets - len(at_risk)
    wait_until(done)
    last = f"checkpoint-{sets - 1}.bin"
    found = {"at_risk_s": max(at_risk.values()), "last_at_risk_s": at_risk[last], "behind_at_the_end": float(behind)}
    check_here(system.folder, wanted)
    return Measured(found)


def cases(quick: bool) -> dict[str, Case]:
    size = 32 * MiB if quick else 256 * MiB
    sets, each, every_s = (3, 32 * MiB, 2.0) if quick else (4, 1024 * MiB, 30.0)

    def nothing(network: Network) -> Limit:
        return Limit({"seconds": 0.0, "first_time_s": network.latency_s}, "no request; at first one for the names")

    def transfer(network: Network) -> Limit:
        return Limit(
            {"durable_s": network.transfer_s(size) + 2 * network.latency_s, "twice_MB": 0.0},
            "the bytes over one connection, none of them twice",
        )

    def asked(network: Network) -> Limit:
        return Limit({"seconds": 2 * network.latency_s}, "a request for what has changed and one for its bytes")

    def risk(network: Network) -> Limit:
        seconds = network.transfer_s(each) + 2 * network.latency_s
        return Limit(
            {"at_risk_s": seconds, "behind_at_the_end": 0.0},
            "the bytes over one connection from the close on; less where they leave before",
        )

    return {
        "start-up, with a cache": Case(start_up, "seconds", _one_file, on_disk=False, limit=nothing),
        f"kill -9 in the upload of {size // MiB} MiB": Case(
            lambda system, emulator: killed_upload(system, emulator, size), "durable_s", on_disk=False, limit=transfer
        ),
        "a remote edit is seen": Case(remote_edit, "seconds", _one_file, on_disk=False, limit=asked),
        f"{sets} checkpoints of {each // MiB} MiB, one every {every_s:g} s": Case(
            lambda system, emulator: stream(system, emulator, sets, each, every_s),
            "at_risk_s",
            on_disk=False,
            limit=risk,
            within_s=2 * sets * every_s,
            usual_s=1.2 * sets * every_s,
        ),
    }
