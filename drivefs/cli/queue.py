"""flush and status: what is on its way to Drive.

`flush --json` prints one object:
  state        worst of the mounts': done, timed-out, sign-in, ended, read-only, failed
  mounts       a list, one object a mount that was flushed:
    mountpoint, state
    paths                   what was flushed, from the mount point; empty: all of it
    files, bytes            what waited when the flush began
    files_left, bytes_left  what still does
    parked                  up to 20 of the files that cannot be sent: [{path, reason}]
    pause                   why nothing moved at the end, in words
    seconds                 how long it took

`status --json` prints one object:
  mounts       a list; running mounts, and cache folders without a mount in which something waits:
    mountpoint, cache_dir, log, account, subject, root, endpoint, read_only
    running                 whether its process answers; where it does not, all below but `queue` is null or empty
    pid, since              its process, and when it was mounted, or brought back (seconds since the epoch)
    restarts                how often its process died and was brought back
    queue                   files, bytes: what waits for Drive; parked: how many of the files cannot be sent;
                            writing_files, writing_bytes: open and changed; oldest_path, oldest_s: waits for longest
    uploads                 under way: [{path, bytes, done_bytes, rate_bytes_s}]
    ahead                   sent before they are closed, or before their turn: [{path, bytes, done_bytes}]
    limits                  of all contents: {upload_bytes_s, download_bytes_s}; null where there is none
    parked                  up to 20 of the files that cannot be sent: [{path, reason}]
    quarantined             up to 20 contents that may be torn and are kept aside: [{path, file, bytes, reason}]
    pause                   why nothing is sent, and when it is tried again: {reason, until}
    offline                 why Drive could not be asked for its changes
    quota                   of Drive: {total_bytes, free_bytes}
    cache                   {limit_bytes, keep_free_bytes, clean_bytes, damaged_blocks, mended_blocks}: of what Drive
                            has too, MiB that the disk was found to have damaged since the mount began, and how many
                            of these are right again, or gone until they are read
    error                   only where the cache cannot be read: a sentence
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path

import click

from drivefs.cli.progress import FlushProgress, Shown, damage_text, files_text, size_text, time_text
from drivefs.control import Ended, Json
from drivefs.errors import CacheDamaged, SignInNeeded, TimedOut, UserError
from drivefs.mounts import Running, get_running, reach, resolve, running
from drivefs.records import Record, read_records
from drivefs.store.survey import survey

# --- flush ---

_STATES = ["done", "timed-out", "sign-in", "ended", "read-only", "failed"]
"""From good to bad."""


@click.command()
@click.argument("paths", nargs=-1, type=click.Path(path_type=Path))
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this.")
@click.option("--json", "as_json", is_flag=True, help="Print one object instead of a sentence.")
def flush(paths: tuple[Path, ...], timeout: float | None, as_json: bool) -> None:
    """Wait until everything written so far is on Drive, open files included.

    With PATHs only what lies at or below one of them; without any, all mounts are flushed. A symbolic link on the
    mount stands for itself. Ends with 0 only when Drive has confirmed every checksum, with 3 when the time is up,
    with 4 when the sign-in is over, with 1 when something cannot be sent. Uploads go on in any case.
    """
    results = flush_all(paths, timeout, lambda: FlushProgress(quiet=as_json), quiet=as_json)
    worst = max((result["state"] for result in results), key=_STATES.index)
    if as_json:
        click.echo(json.dumps({"state": worst, "mounts": results}))
    raise_worst(results)


def flush_all(
    paths: tuple[Path, ...], timeout_s: float | None, shown: Callable[[], Shown], *, quiet: bool
) -> list[Json]:
    """Flush the mounts that the paths lie in, or all, and say of each that is done. Raises UserError."""
    chosen = _chosen(paths) or [(one, []) for one in running()]
    if not chosen:
        _nothing_mounted()
    deadline_s = None if timeout_s is None else time.monotonic() + timeout_s
    results = []
    for one, below in chosen:
        result = ask_flush(one, below, deadline_s, shown())
        results.append({"mountpoint": str(one.record.mountpoint), "paths": below, **result})
        if not quiet and result["state"] == "done":
            _say_done(one, below, result)
    return results


def _chosen(paths: tuple[Path, ...]) -> list[tuple[Running, list[str]]]:
    """The mounts that the paths lie in, each with what is meant of it: nothing stands for all. Raises UserError."""
    mounts: dict[Path, tuple[Running, list[str]]] = {}
    whole: set[Path] = set()
    for path in paths:
        one = get_running(path)
        _, below = mounts.setdefault(one.record.cache_dir, (one, []))
        relative = path_within(one.record, path)
        if relative:
            below.append(relative)
        else:
            whole.add(one.record.cache_dir)
    return [(one, [] if folder in whole else below) for folder, (one, below) in mounts.items()]


def path_within(record: Record, path: Path) -> str:
    """A path in a mount, from the mount point; "" for that itself."""
    relative = resolve(path).relative_to(record.mountpoint)
    return "" if relative == Path() else str(relative)


def ask_flush(one: Running, below: list[str], deadline_s: float | None, shown: Shown) -> Json:
    """Flush a mount, by the clock of `time.monotonic`, and show it; again, when it had to be brought back."""
    with shown as progress:
        while True:
            left_s = None if deadline_s is None else max(0.0, deadline_s - time.monotonic())
            try:
                return one.client.ask("flush", progress.update, timeout_s=left_s, paths=below)
            except Ended:
                client = reach(one.record)
                if client is None:
                    raise
                one = Running(one.record, client)


def _say_done(one: Running, below: list[str], result: Json) -> None:
    if result["files"]:
        what = f"{files_text(result['files'], result['bytes'])} sent in {time_text(result['seconds'])}"
    else:
        what = "nothing waited"
    for path in below:
        click.echo(f"{one.record.mountpoint / path} is on Drive.")
    if not below:
        click.echo(f"Everything in {one.record.mountpoint} is on Drive ({what}).")


def raise_worst(results: list[Json]) -> None:
    """Raises the UserError of the mount whose flush went worst; nothing when all are done."""
    worst = max(results, key=lambda result: _STATES.index(result["state"]))
    if worst["state"] != "done":
        raise _flush_failed(worst)


def _flush_failed(result: Json) -> UserError:
    left = files_text(result["files_left"], result["bytes_left"])
    if result["state"] == "timed-out":
        if result["pause"]:
            return TimedOut(f"Not on Drive yet: {left}, for nothing moves: {result['pause']}")
        return TimedOut(f"Not on Drive yet: {left}; the uploads go on, 'drivefs status' shows them.")
    if result["state"] == "sign-in":
        return SignInNeeded(f"Not on Drive yet: {left}, which waits safely in the cache. {result['pause']}")
    if result["state"] == "ended":
        return UserError(f"The mount was ended; left in the cache for the next one: {left}.")
    if result["state"] == "read-only":
        return UserError(
            f"The mount is read-only; left in its cache: {left}, which the next mount that may write sends."
        )
    named = "; ".join(f"{each['path']}: {each['reason'].rstrip('.')}" for each in result["parked"][:3])
    return UserError(
        f"Drive does not take {left} as things are ({named}): 'drivefs status' lists what it refuses, the next mount "
        "tries again."
    )


def _nothing_mounted() -> None:
    for record in read_records():
        waiting = survey(record.cache_dir)
        if waiting.jobs:
            raise UserError(
                f"Nothing is mounted, with {files_text(waiting.jobs, waiting.size_bytes)} waiting in "
                f"{record.cache_dir}: 'drivefs mount {record.mountpoint}' goes on."
            )
    raise UserError("Nothing is mounted by drivefs: 'drivefs mount FOLDER' mounts Google Drive there.")


# --- status ---


@click.command()
@click.argument("mountpoint", required=False, type=click.Path(path_type=Path))
@click.option("--json", "as_json", is_flag=True, help="Print one object.")
def status(mountpoint: Path | None, as_json: bool) -> None:
    """Show the mounts, what is on its way to Drive, and what waits in a cache without a mount."""
    found = states(mountpoint)
    if as_json:
        click.echo(json.dumps({"mounts": found}))
        return
    if not found:
        click.echo(NOTHING)
    for state in found:
        _show(state)


NOTHING = "Nothing is mounted by drivefs, and nothing waits for Drive."


def states(mountpoint: Path | None) -> list[Json]:
    """What `status --json` prints as mounts. Raises UserError."""
    wanted = resolve(mountpoint) if mountpoint is not None else None
    found = []
    for record in read_records():
        if wanted is not None and record.mountpoint not in (wanted, *wanted.parents):
            continue
        client = reach(record)
        state = client.ask("status") if client is not None else _at_rest(record)
        queue = state["queue"]
        if wanted is not None or state["running"] or queue is None or queue["files"] or queue["writing_files"]:
            found.append(state)
    if wanted is not None and not found:
        raise UserError(f"drivefs has never mounted anything on {wanted}.")
    return found


def _at_rest(record: Record) -> Json:
    state: Json = {
        "mountpoint": str(record.mountpoint),
        "cache_dir": str(record.cache_dir),
        "log": str(record.log) if record.log is not None else None,
        "account": record.account,
        "subject": record.subject,
        "root": record.root,
        "endpoint": record.endpoint,
        "read_only": record.read_only,
        "running": False,
        **dict.fromkeys(("pid", "since", "restarts", "queue", "pause", "offline", "quota", "cache", "limits")),
        "uploads": [],
        "ahead": [],
        "parked": [],
        "quarantined": [],
    }
    try:
        waiting = survey(record.cache_dir)
    except CacheDamaged as error:
        return {**state, "error": str(error)}
    state["queue"] = {
        "files": waiting.jobs,
        "bytes": waiting.size_bytes,
        "parked": waiting.parked,
        "writing_files": waiting.writing_files,
        "writing_bytes": None,
        "oldest_path": None,
        "oldest_s": None if waiting.oldest_ns is None else max(0.0, time.time() - waiting.oldest_ns / 1e9),
    }
    return state


def _show(state: Json) -> None:
    queue = state["queue"]
    if not state["running"]:
        click.echo(f"{state['mountpoint']}: not mounted, cache {state['cache_dir']}")
        if state.get("error"):
            click.echo(f"  Damaged    {state['error']}")
        elif queue["files"] or queue["writing_files"]:
            count = max(queue["files"], queue["writing_files"])
            click.echo(
                f"  Waiting    {files_text(count, queue['bytes'])}: 'drivefs mount {state['mountpoint']}' goes on"
            )
        else:
            click.echo("  Waiting    nothing, everything is on Drive")
        return
    mode = ", read-only" if state["read_only"] else ""
    where = state["endpoint"] or "Google Drive"
    since = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(state["since"]))
    click.echo(f"{state['mountpoint']}: {where}{mode}, mounted since {since} (process {state['pid']})")
    if state["restarts"]:
        times = "once" if state["restarts"] == 1 else f"{state['restarts']} times"
        click.echo(f"  Restarted  {times}, for its process had died: the log says more")
    if queue["files"]:
        oldest = f", the oldest for {time_text(queue['oldest_s'])}: {queue['oldest_path']}"
        click.echo(f"  Waiting    {files_text(queue['files'], queue['bytes'])}{oldest}")
    else:
        click.echo("  Waiting    nothing, everything that was closed is on Drive")
    if queue["writing_files"]:
        click.echo(f"  Writing    {files_text(queue['writing_files'], queue['writing_bytes'])} open and changed")
    for upload in state["uploads"]:
        _show_upload(upload)
    for ahead in state["ahead"]:
        share = f"{size_text(ahead['done_bytes'])} of {size_text(ahead['bytes'])} so far"
        click.echo(f"  Ahead      {ahead['path']}: {share}")
    limits = {"to Drive": state["limits"]["upload_bytes_s"], "from it": state["limits"]["download_bytes_s"]}
    if any(limits.values()):
        shown = [f"{size_text(limit)}/s {way}" for way, limit in limits.items() if limit]
        click.echo(f"  Limited    {', '.join(shown)}")
    if state["pause"]:
        seconds = max(0.0, state["pause"]["until"] - time.time())
        click.echo(f"  Paused     {state['pause']['reason']} Next try in {time_text(seconds)}.")
    elif state["offline"]:
        click.echo(f"  Offline    {state['offline']}")
    for parked in state["parked"]:
        click.echo(f"  Parked     {parked['path']}: {parked['reason']}")
    if queue["parked"] > len(state["parked"]):
        click.echo(f"  Parked     and {queue['parked'] - len(state['parked'])} more")
    for kept in state["quarantined"]:
        what = f"{kept['path'] or 'a file'} ({size_text(kept['bytes'])})"
        click.echo(f"  Kept aside {what} as {kept['file']}: {kept['reason']}")
    if state["quota"]:
        used = state["quota"]["total_bytes"] - state["quota"]["free_bytes"]
        click.echo(f"  Drive      {size_text(used)} of {size_text(state['quota']['total_bytes'])} used")
    cache = state["cache"]
    click.echo(
        f"  Cache      {size_text(cache['clean_bytes'])} of at most {size_text(cache['limit_bytes'])} kept in "
        f"{state['cache_dir']}"
    )
    if cache["damaged_blocks"]:
        click.echo(f"  Damaged    {damage_text(cache)}")
    if state["log"]:
        click.echo(f"  Log        {state['log']}")


def _show_upload(upload: Json) -> None:
    share = 100 * upload["done_bytes"] / upload["bytes"] if upload["bytes"] else 0
    rate = f", {size_text(upload['rate_bytes_s'])}/s" if upload["rate_bytes_s"] else ""
    click.echo(f"  Uploading  {upload['path']}: {share:.0f} % of {size_text(upload['bytes'])}{rate}")
