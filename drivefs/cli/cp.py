"""cp: files and folders to Drive, from Drive and within it, without a mount.

`cp --json` prints one object: files, bytes (copied), same_files (there already), failures: [{path, reason}],
left_out: [text], and with --dry-run would: [text], which is all that happens then.
"""

from __future__ import annotations

import json
import signal
import time
from concurrent.futures import ThreadPoolExecutor
from types import FrameType
from typing import Any

import click

from drivefs.cli.account import drive_options, opened
from drivefs.cli.progress import FlushProgress, files_text
from drivefs.errors import UserError
from drivefs.records import state_folder
from drivefs.remote import plan as plans
from drivefs.remote.copying import Copying, Pools, Result
from drivefs.remote.unfinished import Unfinished

JOBS = 16


@click.command()
@click.argument("sources", nargs=-1, required=True, metavar="SRC...")
@click.argument("target", metavar="DST")
@click.option("-r", "--recursive", is_flag=True, help="Copy folders with all that is in them.")
@click.option("-n", "--dry-run", is_flag=True, help="Say what would be copied, and change nothing.")
@click.option("--jobs", type=click.IntRange(1, 64), default=JOBS, show_default=True, help="Files at once.")
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
@drive_options
def cp(
    sources: tuple[str, ...], target: str, recursive: bool, dry_run: bool, jobs: int, as_json: bool, **flags: Any
) -> None:
    """Copy SRC to DST; what is on Drive is written drive:PATH, or as an ID or a link.

    `drivefs cp -r /content/ drive:backup/` copies what is in /content; without the slash after it the folder itself.
    What is there already with the same checksum is left alone, and what was cut off is gone on with.
    """
    unfinished = Unfinished(state_folder() / "copies")
    unfinished.forget_old(time.time())
    with opened(flags) as drive:
        plan = plans.make(drive, list(sources), target, recursive=recursive)
        with (
            ThreadPoolExecutor(jobs, "transfer") as transfers,
            ThreadPoolExecutor(4 * jobs, "range") as ranges,
            FlushProgress("Copied", quiet=as_json or dry_run) as progress,
        ):
            copying = Copying(drive, plan, unfinished, Pools(transfers, ranges), jobs=jobs, dry_run=dry_run)

            def end(_: int, __: FrameType | None) -> None:
                copying.stop()

            before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
            try:
                result = copying.run(progress.update)
            finally:
                for number, handler in before.items():
                    signal.signal(number, handler)
    _tell(result, plan.left_out, copying.would if dry_run else None, as_json)


def _tell(result: Result, left_out: list[str], would: list[str] | None, as_json: bool) -> None:
    if as_json:
        told: dict[str, Any] = {
            "files": 0 if would is not None else result.copied_files,
            "bytes": 0 if would is not None else result.copied_bytes,
            "same_files": result.same_files,
            "failures": [{"path": path, "reason": reason} for path, reason in result.failures],
            "left_out": left_out,
        }
        click.echo(json.dumps(told if would is None else told | {"would": would}))
    else:
        for path, reason in result.failures:
            click.echo(f"drivefs: {path}: {reason}", err=True)
        for text in left_out:
            click.echo(f"drivefs: Left out: {text}.", err=True)
        for text in would or ():
            click.echo(f"Would {text}.")
        what = files_text(result.copied_files, result.copied_bytes)
        click.echo(
            f"{'Would copy' if would is not None else 'Copied'} {what}; {result.same_files} were there already."
        )
    if result.failures:
        raise UserError(f"{len(result.failures)} files were not copied: the same command goes on with them.")
