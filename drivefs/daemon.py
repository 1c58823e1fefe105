"""A mount's process in the background: its settings, its log, and what it says to those who started it.

`python -m drivefs.daemon LOG SOCKET RESTARTS TEXT FD…` reads its settings from standard input, says on standard
output in one line whether the mount answers, and goes on in silence. `drivefs.supervisor` starts it, hears through
SOCKET how it gets on, and brings it back when it dies, with TEXT and the descriptors that it had kept; standard error
goes to LOG too. One thread; `app` starts the others.
"""

from __future__ import annotations

import faulthandler
import json
import logging
import logging.handlers
import os
import sys
from pathlib import Path

from drivefs.app import run
from drivefs.config import Settings
from drivefs.control import Json
from drivefs.errors import UserError
from drivefs.supervisor import Link

log = logging.getLogger(__name__)

LOG_LIMIT_BYTES = 4 << 20
LOGS_KEPT = 3

SWITCH_S = 0.0005
"""How long one thread may have the interpreter while others want it."""


def start_log(file: Path, debug: bool) -> None:
    """Log to a file that only its owner reads, and that does not grow without end."""

    class Private(logging.handlers.RotatingFileHandler):
        def _open(self):  # type: ignore[no-untyped-def]  # as in the class above
            return os.fdopen(os.open(self.baseFilename, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "a")

    handler = Private(file, maxBytes=LOG_LIMIT_BYTES, backupCount=LOGS_KEPT)
    logging.basicConfig(
        level=logging.DEBUG if debug else logging.INFO,
        format="%(asctime)s %(levelname)s %(threadName)s %(name)s: %(message)s",
        handlers=[handler],
        force=True,
    )


def _libfuse_said(log_file: Path, offset: int) -> str:
    """What libfuse and fusermount3 have written to standard error, that is, to the log, from `offset` on."""
    with log_file.open("rb") as file:
        file.seek(offset)
        lines = file.read().decode(errors="replace").splitlines()
    said = [line for line in lines if line.startswith("fuse")]
    return f" It said: {'; '.join(said).rstrip('.')}." if said else ""


def main() -> int:
    """As `supervisor.start_daemon` starts it."""
    log_file, supervisor = Path(sys.argv[1]), Link.from_arguments(sys.argv[2:])
    offset = log_file.stat().st_size
    settings = Settings.from_json(sys.stdin.read())
    debug = bool(os.environ.get("DRIVEFS_DEBUG"))
    os.chdir("/")
    # Requests of the kernel's wait for the interpreter while a transfer has it: five milliseconds, if nobody asks.
    sys.setswitchinterval(SWITCH_S)
    start_log(log_file, debug)
    faulthandler.enable()

    def say(message: Json) -> None:
        os.write(1, json.dumps(message).encode() + b"\n")
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.close(null)

    try:
        run(settings, log_file, lambda ready: say({"ready": ready}), supervisor)
    except UserError as error:
        log.error("%s", error, exc_info=debug)
        text = str(error) + _libfuse_said(log_file, offset)
        say({"error": {"message": text, "exit_code": error.exit_code}})
        return error.exit_code
    except Exception as error:
        log.exception("The mount failed")
        text = f"The mount failed unexpectedly ({type(error).__name__}): {log_file} says why."
        say({"error": {"message": text, "exit_code": 1}})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
