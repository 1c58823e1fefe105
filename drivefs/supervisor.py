"""The small process that `mount` leaves behind: it runs the mount's process, and brings it back when it dies.

`python -m drivefs.supervisor LOG` takes the settings from standard input, and hands them, with its standard output
and LOG as standard error, to `python -m drivefs.daemon`. That process says through a socket when its mount answers
and when it is ending on purpose; if it ends in between, by whatever cause, it is started again at once on the same
cache and the same mount point. What it has left in the socket to be kept, descriptors, is handed to the next one:
with the kernel's end of the mount among them, the mount lives on meanwhile, and whoever uses it waits. SIGTERM,
SIGINT and SIGHUP are passed on, and end both. When this process itself is killed, the mount goes on without it.

It has one thread, and imports nothing that it can do without, so that it takes a few megabytes and has little to
die of. Nothing here is durable.
"""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable

READY, ENDING = b"r", b"e"
"""What the mount's process says: its mount answers; whatever happens from now on, it is not to be brought back."""

KEEP = b"k"
"""What else it says: the descriptors that come with this are to be kept, and the text that follows it."""

MESSAGE_LIMIT_BYTES = 256
FDS_LIMIT = 8

Kept = tuple[list[int], str]
"""What the next process is handed."""

QUICK_S = 10.0
"""A process that lives no longer than this has died of something that may last."""

QUICK_DEATHS = 5
"""After so many in a row it is given up: the dead mount and the log are left."""

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


def pause_s(quick_deaths: int) -> float:
    """How long to wait before the next start: not at all after a first death, then 1 s, 2 s, 4 s."""
    return 0.0 if quick_deaths <= 1 else 2.0 ** (quick_deaths - 2)


class Supervisor:
    """One mount's process, again and again. SIGNALS and SIGCHLD are blocked."""

    def __init__(self, start: Callable[[int, int, Kept], int], say: Callable[[str], None]) -> None:
        """`start` gets the number of restarts so far, one end of a socket and what was kept, and returns a process
        ID."""
        self._start = start
        self._say = say
        self._was_ready = False
        self._told_to_end = False
        self._kept: Kept = ([], "")

    def run(self) -> int:
        """Until the process ends on purpose, or cannot be brought back; the exit code of the last one."""
        restarts = quick_deaths = 0
        while True:
            started_s = time.monotonic()
            code, said = self._run_once(restarts)
            self._was_ready |= READY in said
            if self._told_to_end or ENDING in said or not self._was_ready or -code in SIGNALS:
                return code if code >= 0 else 128 - code
            how = f"was killed by signal {-code}" if code < 0 else f"ended with code {code}"
            quick_deaths = quick_deaths + 1 if time.monotonic() - started_s < QUICK_S else 1
            if quick_deaths >= QUICK_DEATHS:
                self._say(f"ERROR The mount's process {how}, for the {quick_deaths}th time in a row: given up")
                return 1
            self._say(f"WARNING The mount's process {how}: it is started again")
            if self._signal_within(pause_s(quick_deaths)):
                return 1
            restarts += 1

    def _run_once(self, restarts: int) -> tuple[int, bytes]:
        """Start the process and wait for its end: its exit code, or minus the signal's number, and what it said."""
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with ours:
            try:
                with theirs:
                    child = self._start(restarts, theirs.fileno(), self._kept)
            except OSError as error:
                self._say(f"ERROR The mount's process cannot be started: {error.strerror}")
                return 1, b""
            while True:
                number = signal.sigwait({signal.SIGCHLD, *SIGNALS})
                if number in SIGNALS:
                    self._told_to_end = True
                    os.kill(child, number)
                    continue
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    return os.waitstatus_to_exitcode(status), self._heard(ours)

    def _heard(self, ours: socket.socket) -> bytes:
        """The words that there are in a socket; what was to be kept is kept in place of what was before."""
        ours.setblocking(False)
        words = b""
        while True:
            try:
                message, fds, _, _ = socket.recv_fds(ours, MESSAGE_LIMIT_BYTES, FDS_LIMIT)
            except (BlockingIOError, ConnectionResetError):  # a process that it has started still has the other end
                return words
            if not message:
                return words
            if message.startswith(KEEP):
                for fd in self._kept[0]:
                    os.close(fd)
                self._kept = (list(fds), message[1:].decode())
            else:
                words += message

    def _signal_within(self, seconds: float) -> bool:
        return signal.sigtimedwait(SIGNALS, seconds) is not None


class Link:
    """The other end: how the mount's process tells its supervisor, which may be gone already, how it gets on."""

    def __init__(self, end: int, restarts: int, fds: list[int], text: str) -> None:
        """`end` is that of a socket; `restarts`, how often the mount has been brought back; `fds` and `text` are what
        the process before had kept."""
        for fd in (end, *fds):
            os.set_inheritable(fd, False)
        self._socket = socket.socket(fileno=end)
        self.pid = os.getppid()
        self.restarts = restarts
        self.kept: Kept = (fds, text)

    @classmethod
    def from_arguments(cls, arguments: list[str]) -> Link:
        """As `start_daemon` gives them."""
        end, restarts, text, *fds = arguments
        return cls(int(end), int(restarts), list(map(int, fds)), text)

    def tell(self, word: bytes) -> None:
        """READY or ENDING; more than once is no harm."""
        self._send(word, [])

    def keep(self, fds: list[int], text: str) -> None:
        """Hand open descriptors and a short text to the process after this one, in place of what was kept before."""
        self._send(KEEP + text.encode(), fds)

    def close(self) -> None:
        """Nothing more is said by this process."""
        self._socket.close()

    def _send(self, message: bytes, fds: list[int]) -> None:
        try:
            socket.send_fds(self._socket, [message], fds)
        except (BrokenPipeError, ConnectionResetError):
            return  # killed: nobody is left who would do anything


def start_daemon(settings: int, log_file: str, restarts: int, end: int, kept: Kept) -> int:
    """Start the mount's process with the settings, an open file, as its standard input; its process ID."""
    os.lseek(settings, 0, os.SEEK_SET)
    fds, text = kept
    for fd in (end, *fds):
        os.set_inheritable(fd, True)
    return os.posix_spawn(
        sys.executable,
        # -P: what lies in the working folder is not imported.
        [sys.executable, "-P", "-m", "drivefs.daemon", log_file, *map(str, (end, restarts, text, *fds))],
        os.environ,
        file_actions=[
            (os.POSIX_SPAWN_DUP2, settings, 0),
            # The log may have been given another name since the last time.
            (os.POSIX_SPAWN_OPEN, 2, log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
        ],
        setsigmask=(),
    )


def main() -> int:
    log_file = sys.argv[1]
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD, *SIGNALS})
    settings = os.memfd_create("settings")
    with os.fdopen(os.dup(settings), "wb") as file:
        file.write(sys.stdin.buffer.read())
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    os.dup2(null, 0)

    def start(restarts: int, end: int, kept: Kept) -> int:
        child = start_daemon(settings, log_file, restarts, end, kept)
        os.dup2(null, 1)  # who waits for the first line waits for the first child's alone
        return child

    def say(text: str) -> None:
        now_s = time.time()
        stamp = f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(now_s))},{int(now_s % 1 * 1000):03}"
        try:
            with open(log_file, "a") as log:
                log.write(f"{stamp} {text}.\n")
        except OSError:
            return  # a full disk, say: that the mount comes back counts for more

    return Supervisor(start, say).run()


if __name__ == "__main__":
    sys.exit(main())
