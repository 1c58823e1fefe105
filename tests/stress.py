"""Many at once on one filesystem: writers, renamers, readers, and who edits on Drive. Each name has one owner,
who knows what was written to it last; everybody may read."""

from __future__ import annotations

import errno
import os
import random
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from tests.filesystem import Filesystem, read_file, write_file

WRITERS = 16
RENAMERS = 2
READERS = 4
NAMES_EACH = 4
FOLDERS = ("", "one/", "two/")
SIZES = (0, 1, 300, 5_000, 70_000, 400_000)


def content(owner: str, version: int, size_bytes: int) -> bytes:
    """Whoever reads it can tell a whole one."""
    line = b"%s %d %d\n" % (owner.encode(), version, size_bytes)
    return (line * (size_bytes // len(line) + 1))[:size_bytes]


def is_whole(owner: str, data: bytes) -> bool:
    """Whether it is one version's content, all of it; only of names that are replaced by rename."""
    if not data:
        return True
    head = data.partition(b"\n")[0].split(b" ")
    if len(head) != 3:
        return content(owner, 0, 1) == data  # the shortest
    return data == content(owner, int(head[1]), int(head[2]))


@dataclass
class Stress:
    """The work, and what must be there after it."""

    fs: Filesystem
    edit: Callable[[str, bytes], None]
    """Somebody gives a file of the folder `theirs` new content on Drive."""
    seed: int = 1
    wanted: dict[str, bytes] = field(default_factory=dict)
    """By path, what was written last. Each key has one writer."""
    removed: set[str] = field(default_factory=set)
    """Paths that were given up: what Drive had of them may be in the trash."""
    done: int = 0
    problems: list[BaseException] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    def run(self, seconds: float, *others: Callable[[], object]) -> None:
        """All at once, for a while; `others` are called again and again meanwhile."""
        for folder in FOLDERS[1:]:
            self.fs.mkdir(folder.rstrip("/"))
        bodies = [
            *((self._write, number) for number in range(WRITERS)),
            *((self._rename, number) for number in range(RENAMERS)),
            *((self._read, number) for number in range(READERS)),
            (self._edit, 0),
            *((lambda dice, number, other=other: other(), 0) for other in others),
        ]
        threads = [
            threading.Thread(target=self._again, args=(body, number, random.Random(f"{self.seed} {place}")))
            for place, (body, number) in enumerate(bodies)
        ]
        for thread in threads:
            thread.start()
        self._stop.wait(seconds)
        self._stop.set()
        for thread in threads:
            thread.join(60)
            assert not thread.is_alive(), "somebody hangs"
        for problem in self.problems:
            raise problem

    def _again(self, body: Callable[[random.Random, int], object], number: int, dice: random.Random) -> None:
        try:
            while not self._stop.is_set():
                body(dice, number)
                self.done += 1
        except BaseException as problem:  # noqa: BLE001 - raised by `run`
            self.problems.append(problem)
            self._stop.set()

    def _write(self, dice: random.Random, number: int) -> None:
        owner = f"w{number}-{dice.randrange(NAMES_EACH)}"
        path = FOLDERS[number % len(FOLDERS)] + owner
        old = self.wanted.get(path)
        data = content(owner, self.done, dice.choice(SIZES))
        match dice.choice(("replace", "replace", "overwrite", "append", "change", "truncate", "unlink")):
            case "overwrite":
                path += ".log"
                write_file(self.fs, path, data)
            case "append":
                path += ".log"
                fd = self.fs.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
                self.fs.write(fd, data)
                self.fs.close(fd)
                data = self.wanted.get(path, b"") + data
                if len(data) > 2_000_000:
                    self.fs.truncate(path, 0)
                    data = b""
            case "change":
                path += ".h5"
                fd = self.fs.open(path, os.O_RDWR | os.O_CREAT)
                before = self.wanted.get(path, b"")
                at = dice.randrange(len(before) + 1)
                self.fs.pwrite(fd, data, at)
                self.fs.close(fd)
                data = before[:at] + data + before[at + len(data) :]
            case "truncate" if path + ".h5" in self.wanted:
                path += ".h5"
                size_bytes = len(self.wanted[path]) // 2
                self.fs.truncate(path, size_bytes)
                data = self.wanted[path][:size_bytes]
            case "unlink" if old is not None:
                self.fs.unlink(path)
                self.removed.add(path)
                del self.wanted[path]
                return
            case _:
                write_file(self.fs, f"{path}.tmp", data)
                self.fs.rename(f"{path}.tmp", path)
        self.wanted[path] = data

    def _rename(self, dice: random.Random, number: int) -> None:
        mine = [path for path in list(self.wanted) if path.rpartition("/")[2].startswith(f"r{number}-")]
        new = f"{dice.choice(FOLDERS)}r{number}-{dice.randrange(NAMES_EACH)}"
        if not mine or dice.random() < 0.3:
            self.wanted[new] = content(new.rpartition("/")[2], self.done, dice.choice(SIZES))
            write_file(self.fs, new, self.wanted[new])
            return
        old = dice.choice(mine)
        self.fs.rename(old, new)
        if new != old:
            self.removed.update((old, new))
            self.wanted[new] = self.wanted.pop(old)

    def _read(self, dice: random.Random, number: int) -> None:
        writer = dice.randrange(WRITERS)
        owner = f"w{writer}-{dice.randrange(NAMES_EACH)}"
        try:
            data = read_file(self.fs, FOLDERS[writer % len(FOLDERS)] + owner)
        except OSError as error:
            # ESTALE: replaced twice while it was being opened once.
            if error.errno not in (errno.ENOENT, errno.ESTALE):
                raise
            self.fs.names(dice.choice(FOLDERS).rstrip("/"))
            return
        assert is_whole(owner, data), f"{owner} is torn"

    def _edit(self, dice: random.Random, number: int) -> None:
        name = f"t{dice.randrange(NAMES_EACH)}"
        self.wanted[f"theirs/{name}"] = data = content(name, self.done, dice.choice(SIZES))
        self.edit(name, data)
        self._stop.wait(0.05)
