"""why: what Drive has of a file or folder, what of it waits, and for what.

`why --json` prints one object:
  path, mountpoint
  kind         file, folder, symlink
  drive        {id, revision, md5} of what Drive has; null: it has nothing of it yet
  writing      whether it is open and changed
  export       why Drive does not export a Google document, as far as it was asked lately
  cause        null: Drive has all of it. Else, of what is here and not there:
    writing    it is not closed yet                    sending   it is on its way
    refused    Drive does not take it (`reason`), or the folder that it lies in (`earlier`)
    order      files that were closed before it come first (`earlier`, up to 5 of `earlier_files`)
    folder     the folder that it lies in is made first (`earlier`)
    quiet      it was changed a moment ago (`until`)   retry     the last try failed (`reason`, `until`)
    turn       it goes as soon as a line is free      held      it may be torn, and is not sent so (`reason`)
  quarantined  what was written to it and may be torn: [{path, file, bytes, reason}]
  until        seconds since the epoch
  pause        why nothing at all is sent, and when it is tried again: {reason, until}
  offline      why Drive cannot be asked for its changes
  below        of a folder: {files, bytes, parked}, what waits at or below it
  text         all of it in sentences
"""

from __future__ import annotations

import json
import time
from pathlib import Path

import click

from drivefs.cli.progress import files_text, time_text
from drivefs.cli.queue import path_within
from drivefs.control import Json
from drivefs.errors import UserError
from drivefs.mounts import get_running, resolve
from drivefs.records import read_records
from drivefs.store.survey import survey


@click.command()
@click.argument("path", type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def why(path: Path, as_json: bool) -> None:
    """Tell in a sentence or two what Drive has of PATH, and what the rest waits for."""
    _check_mounted(path)
    one = get_running(path)
    relative = path_within(one.record, path)
    facts = one.client.ask("why", path=relative)
    whole = str(one.record.mountpoint / relative)
    told = {"path": whole, "mountpoint": str(one.record.mountpoint), **facts, "text": sentences(whole, facts)}
    click.echo(json.dumps(told) if as_json else told["text"])


def _check_mounted(path: Path) -> None:
    """Raises UserError where the last mount over a path is no more, and says what waits there."""
    path = resolve(path)
    record = next((each for each in read_records() if each.mountpoint in (path, *path.parents)), None)
    if record is None:
        return
    try:
        get_running(path)
    except UserError:
        waiting = survey(record.cache_dir)
        left = files_text(waiting.jobs, waiting.size_bytes) if waiting.jobs else "nothing"
        raise UserError(
            f"Nothing is mounted on {record.mountpoint}, and {left} of it waits in {record.cache_dir}: "
            f"'drivefs mount {record.mountpoint}' goes on."
        ) from None


def sentences(path: str, facts: Json) -> str:
    """What is so, what it waits for, and how to go on."""
    had = facts["drive"] is not None
    cause = facts["cause"]
    if cause is None:
        text = [f"{path} is on Drive as it is here."]
    elif had:
        text = [f"Drive has {path}, but not as it is here now: {_waits(path, facts)}"]
    else:
        text = [f"Drive has nothing of {path} yet: {_waits(path, facts)}"]
    if cause is not None and cause != "refused":
        if facts["pause"] is not None:
            left = time_text(max(0.0, facts["pause"]["until"] - time.time()))
            reason = facts["pause"]["reason"].rstrip(".")
            text.append(f"Nothing is sent for now ({reason}); next try in {left}, 'drivefs flush' tries at once.")
        elif facts["offline"]:
            text.append(f"Drive cannot be reached ({facts['offline'].rstrip('.')}); it goes on by itself.")
    if facts["export"]:
        text.append(f"It cannot be read: {facts['export']}")
    below = facts["below"]
    if below is not None and below["files"] > (cause is not None):
        refused = f", {below['parked']} of them refused ('drivefs status' lists them)" if below["parked"] else ""
        text.append(f"At and below it {files_text(below['files'], below['bytes'])} are not on Drive yet{refused}.")
    text += [f"Kept aside as {kept['file']}: {kept['reason']}" for kept in facts["quarantined"]]
    return " ".join(text)


def _waits(path: str, facts: Json) -> str:
    earlier, reason = facts["earlier"], (facts["reason"] or "").rstrip(".")
    again = "the next mount tries again, or a change of it."
    left = time_text(max(0.0, facts["until"] - time.time())) if facts["until"] is not None else ""
    match facts["cause"]:
        case "writing":
            return (
                f"it is being written, and goes when it is closed or rests; 'drivefs flush {path}' sends it as it is."
            )
        case "sending":
            return "it is on its way."
        case "refused" if earlier:
            return f"Drive does not take the folder {earlier[0]} ({reason}); {again}"
        case "refused":
            return f"Drive does not take it ({reason}); {again}"
        case "held":
            return f"it is held back. {facts['reason']}"
        case "order":
            more = facts["earlier_files"] - len(earlier)
            named = ", ".join(earlier) + (f" and {more} more" if more else "")
            return f"what was closed before it goes first ({named})."
        case "folder":
            return f"the folder {earlier[0]} is made first."
        case "quiet":
            return f"it was changed a moment ago, and goes in {left} if it rests."
        case "retry":
            return f"the last try failed ({reason}), the next one is in {left}."
        case _:
            return "it goes as soon as a line is free."
