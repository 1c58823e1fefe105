"""What a process does with the interpreter: py-spy's samples of the thread that holds it. What waits for the network
or the disk, hashes or copies holds none; how much of the processors all of that takes is the figure `cpu`."""

from __future__ import annotations

import collections
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

RATE_HZ = 200
SHOWN = 8


@contextmanager
def profiled(pid: int, file: Path) -> Iterator[None]:
    """Sample a process meanwhile; its stacks go to `file`, what took most to standard error."""
    file.parent.mkdir(parents=True, exist_ok=True)
    command = [str(Path(sys.executable).with_name("py-spy")), "record", "--pid", str(pid), "--rate", str(RATE_HZ),
               "--format", "raw", "--threads", "--gil", "--output", str(file)]  # fmt: skip
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        yield
    finally:
        process.send_signal(signal.SIGINT)
        process.wait(60)
        if file.exists():
            print(summary(file.read_text()), file=sys.stderr)


def summary(stacks: str) -> str:
    """Samples by thread, and by the innermost function; each line of `stacks` is `thread;outer;…;inner count`."""
    threads: collections.Counter[str] = collections.Counter()
    functions: collections.Counter[str] = collections.Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        frames = stack.split(";")
        threads[frames[0]] += int(count)
        functions[frames[-1]] += int(count)
    total = sum(threads.values()) or 1
    told = [f"the interpreter was held for {total / RATE_HZ:.1f} s"]
    for counted in (threads, functions):
        told += [f"  {count / total:4.0%} {name}" for name, count in counted.most_common(SHOWN)]
    return "\n".join(told)
