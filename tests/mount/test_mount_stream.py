"""A trainer that writes more than the line carries, through a real mount: Drive stays loadable, and advances."""

from __future__ import annotations

import threading
import time
from pathlib import Path

import pytest

from bench.cases_stream import Trainer, Watch
from tests.mounting import KERNEL, drive_at, mounted

SET_BYTES = 24 << 20
EVERY_S = 1.0
LINE_BYTES_S = 14e6
ADVANCES = 3
LIMIT_S = 120.0


def test_stream_that_the_line_cannot_carry_leaves_drive_loadable_and_advancing(tmp_path: Path) -> None:
    reason = KERNEL.why_not()
    if reason is not None:
        pytest.skip(reason)
    with (
        drive_at(tmp_path / "drive", shared_bandwidth_bytes_s=LINE_BYTES_S) as drive,
        mounted(drive, KERNEL, tmp_path / "mount") as mount,
    ):
        trainer = Trainer(mount.path, SET_BYTES, EVERY_S, steps=1_000)
        watch = Watch(trainer)
        thread = threading.Thread(target=trainer.run)
        thread.start()
        try:
            end_s = time.monotonic() + LIMIT_S
            watch.until(lambda: len(watch.advances_s) >= ADVANCES or time.monotonic() > end_s, drive.running)
        finally:
            trainer.enough.set()
            thread.join()
            drive.admin.set_network(shared_bandwidth_bytes_s=None)
        assert trainer.problem is None
        assert watch.problems == []
        assert len(watch.advances_s) >= ADVANCES
        assert trainer.saved > ADVANCES, "the line was not too slow"
        mount.flush()
        watch.look(drive.running)
        assert watch.problems == []
        assert drive.admin.read_file("latest") == f"checkpoint-{trainer.saved}".encode()
