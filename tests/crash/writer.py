"""Works on a mount until it dies, and keeps a record outside of it: python writer.py FOLDER RECORD SEED.

Each line of the record is a JSON list. ["begin", call, …] stands before a system call or a row of them is made,
["wrote", bytes in all] after each write(2) that returned, ["done"] after the last call has returned. So at most the
last call recorded is in doubt.
"""

from __future__ import annotations

import json
import os
import random
import sys
from pathlib import Path
from typing import Any

FOLDERS = 3
FILES = 5
PIECE_BYTES = 256 << 10


def content(seed: int, size_bytes: int) -> bytes:
    """What a file is filled with."""
    return random.Random(seed).randbytes(size_bytes)


class Writer:
    def __init__(self, top: Path, record: Path, seed: int) -> None:
        self._top = top
        self._record_fd = os.open(record, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._chance = random.Random(seed)

    def _say(self, *words: Any) -> None:
        os.write(self._record_fd, json.dumps(words).encode() + b"\n")

    def _write(self, path: str, flags: int) -> None:
        seed = self._chance.randrange(1 << 30)
        size_bytes = self._chance.choice((0, 100, 5_000, 60_000, 1_000_000, 6_000_000))
        self._say("begin", "append" if flags & os.O_APPEND else "write", path, seed, size_bytes)
        data = content(seed, size_bytes)
        fd = os.open(self._top / path, os.O_WRONLY | os.O_CREAT | flags, 0o644)
        done = 0
        while done < size_bytes:
            done += os.write(fd, data[done : done + PIECE_BYTES])
            self._say("wrote", done)
        if self._chance.random() < 0.3:
            os.fsync(fd)
        os.close(fd)
        self._say("done")

    def _call(self, call: str, *paths: str) -> None:
        self._say("begin", call, *paths)
        {"mkdir": os.mkdir, "unlink": os.unlink, "rename": os.rename}[call](*(self._top / path for path in paths))
        self._say("done")

    def _path(self) -> str:
        return f"d{self._chance.randrange(FOLDERS)}/f{self._chance.randrange(FILES)}"

    def step(self) -> None:
        path = self._path()
        match self._chance.choice(("write", "write", "replace", "replace", "append", "unlink", "rename", "folder")):
            case "write":
                self._write(path, os.O_TRUNC)
            case "append":
                self._write(path, os.O_APPEND)
            case "replace":
                self._write("tmp", os.O_TRUNC)
                self._call("rename", "tmp", path)
            case "unlink" if (self._top / path).exists():
                self._call("unlink", path)
            case "rename" if (self._top / path).exists():
                self._call("rename", path, self._path())
            case "folder":
                self._call("rename", "d0", "moved")
                self._call("rename", "moved", "d0")

    def run(self) -> None:
        for number in range(FOLDERS):
            if not (self._top / f"d{number}").exists():
                if number == 0 and (self._top / "moved").exists():
                    self._call("rename", "moved", "d0")
                else:
                    self._call("mkdir", f"d{number}")
        while True:
            self.step()


if __name__ == "__main__":
    try:
        Writer(Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])).run()
    except OSError as error:
        print(error)
