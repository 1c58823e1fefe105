"""mount and umount."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import click

from drivefs.cli.notify import notify
from drivefs.cli.progress import FlushProgress, Shown, files_text
from drivefs.cli.queue import ask_flush
from drivefs.config import FSYNCS, LAYOUTS, TRANSPORTS, Settings, config_file, load_settings
from drivefs.control import Client, Json, told_error
from drivefs.errors import SignInNeeded, TimedOut, UserError
from drivefs.mounts import (
    FUSE_TYPE,
    check_fuse,
    clear_stale,
    end_supervisor,
    ensure_mountpoint,
    find_mount_at,
    has_ended,
    reach,
    resolve,
    running,
    unmount,
)
from drivefs.records import find_record, state_folder
from drivefs.store.survey import survey

STOP_WAIT_S = 60.0
"""How long the process behind a mount may take to end after its last upload."""


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--account", metavar="NAME", help="Whose Drive, of those signed in (default: default).")
@click.option("--root", metavar="PATH|ID", help="Show this folder of Drive instead of all of My Drive.")
@click.option(
    "--layout",
    type=click.Choice(LAYOUTS),
    help="colab: MyDrive, Shareddrives and 'Shared with me', as Colab's own mount has them (default: flat).",
)
@click.option("--read-only", is_flag=True, default=None, help="Never write.")
@click.option("--cache-dir", metavar="DIR", help="Where what is written waits for Drive, and what was read is kept.")
@click.option(
    "--cache-size", metavar="SIZE", help="Limit for what is kept to read, such as 20G (half the free disk)."
)
@click.option(
    "--keep-free", metavar="SIZE", help="Of the cache's disk this much stays free (a twentieth, 4G at most)."
)
@click.option(
    "--trash-limit",
    metavar="SIZE|AGE",
    help="How much (10G), or for how long (7d), files made here and removed stay in Drive's trash (default: 10G).",
)
@click.option(
    "--permanent-delete", is_flag=True, default=None, help="Files removed here are deleted, past Drive's trash."
)
@click.option(
    "--export-formats",
    metavar="LIST",
    help="As what Google documents show, the first that fits each: docx,xlsx,pptx,svg (the default), pdf, odt, csv, "
    "or desktop, url (links to their page) and others.",
)
@click.option("--upload-limit", metavar="SIZE", help="Bytes a second to Drive, such as 2M (default: no limit).")
@click.option("--download-limit", metavar="SIZE", help="Bytes a second from Drive (default: no limit).")
@click.option("--allow-other", is_flag=True, default=None, help="Let other users in.")
@click.option("--fsync", type=click.Choice(FSYNCS), help="What fsync(2) waits for (default: local, the disk).")
@click.option("--transport", type=click.Choice(TRANSPORTS), help="The way to the kernel (default: auto).")
@click.option("--foreground", is_flag=True, help="Stay in the foreground, and log to standard error.")
@click.option("--credentials", metavar="FILE", help="An authorized-user or service-account file.")
@click.option("--subject", metavar="EMAIL", help="Whom a service account stands in for.")
@click.option("--endpoint", metavar="URL", help="Another server of the Drive API than Google's.")
@click.option("-o", "options", metavar="OPTIONS", multiple=True, help="Mount options of FUSE, separated by commas.")
def mount(mountpoint: Path, foreground: bool, options: tuple[str, ...], **flags: Any) -> None:
    """Mount Google Drive on the folder MOUNTPOINT, which is made if it is missing.

    Returns when the mount answers; a process in the background serves it, and sends to Drive what is written.
    Every option can be given in the environment too (DRIVEFS_CACHE_SIZE) or in the settings file
    (~/.config/drivefs/config.toml: cache_size = "20G").
    """
    mountpoint = resolve(mountpoint)
    settings = load_settings(mountpoint, {**flags, "options": options or None}, os.environ, config_file())
    begin(settings, foreground=foreground)


def begin(settings: Settings, *, foreground: bool = False) -> None:
    """Mount, and say so; in the foreground, serve the mount to its end. Raises UserError."""
    mountpoint = settings.mountpoint
    check_fuse()
    if clear_stale(mountpoint):
        click.echo(f"drivefs: Cleared away the mount on {mountpoint} whose process had died.", err=True)
    made = ensure_mountpoint(mountpoint)
    try:
        if foreground:
            _serve_here(settings, made)
        else:
            log_file = _log_file(mountpoint)
            _say_mounted(settings, log_file, _start(settings, log_file), made)
    except BaseException:
        if made and find_mount_at(mountpoint) is None:
            mountpoint.rmdir()
        raise


def _log_file(mountpoint: Path) -> Path:
    folder = state_folder() / "logs"
    folder.mkdir(mode=0o700, exist_ok=True)
    digest = hashlib.sha256(os.fsencode(mountpoint)).hexdigest()[:8]
    return folder / f"{mountpoint.name or 'root'}-{digest}.log"


def _serve_here(settings: Settings, made: bool) -> None:
    from drivefs import app  # noqa: PLC0415 - heavy, and not needed by the other commands

    logging.basicConfig(
        level=logging.DEBUG if os.environ.get("DRIVEFS_DEBUG") else logging.INFO,
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    app.run(settings, None, lambda ready: _say_mounted(settings, None, ready, made))


def _start(settings: Settings, log_file: Path) -> Json:
    """Start the processes in the background, and wait until the mount answers. Raises UserError as it says."""
    stderr = os.open(log_file, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        process = subprocess.Popen(
            # -P: what lies in the working folder is not imported.
            [sys.executable, "-P", "-m", "drivefs.supervisor", log_file],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,
            # Many threads would otherwise keep a heap each: some 100 MB after an hour of transfers.
            env={"MALLOC_ARENA_MAX": "2", **os.environ},
        )
    finally:
        os.close(stderr)
    assert process.stdin is not None and process.stdout is not None
    try:
        process.stdin.write(settings.to_json().encode())
        process.stdin.close()
        line = process.stdout.readline()
    except BaseException:
        process.terminate()
        raise
    finally:
        process.stdout.close()
    if not line:
        raise UserError(
            f"The process that was to serve the mount ended (code {process.wait()}): {log_file} says why."
        )
    message: Json = json.loads(line)
    if "error" in message:
        process.wait()
        raise told_error(message["error"])
    ready: Json = message["ready"]
    return ready


def _say_mounted(settings: Settings, log_file: Path | None, ready: Json, made: bool) -> None:
    what = "Google Drive" if ready["endpoint"] is None else f"the Drive at {ready['endpoint']}"
    text = f"Mounted {what} on {settings.mountpoint}{' (a new folder)' if made else ''}"
    if settings.read_only:
        text += ", read-only"
    if log_file is not None:
        text += f"; log {log_file}"
    if ready["waiting_files"]:
        text += f"; {files_text(ready['waiting_files'], ready['waiting_bytes'])} waiting from last time."
    else:
        text += "; nothing waits from last time."
    click.echo(text)
    notify(READY=1, MAINPID=ready["supervisor"] or os.getpid(), STATUS=text)
    if ready["damaged"]:
        click.echo(
            f"drivefs: The cache's database was damaged and is kept as {ready['damaged']}: what waits for Drive "
            "goes on as far as it could be read, 'drivefs status' lists what is kept aside.",
            err=True,
        )
    recovered = ready["recovered"]
    if recovered["lost"] or recovered["orphans"] or recovered["unsure"]:
        click.echo(
            f"drivefs: After an unclean end {recovered['lost']} files had no content, {recovered['orphans']} "
            f"contents no file, and {recovered['unsure']} files may be torn: 'drivefs status' lists what is kept "
            "aside or held back.",
            err=True,
        )


@click.command()
@click.argument("mountpoint", type=click.Path(path_type=Path))
@click.option("--no-wait", is_flag=True, help="Do not wait for uploads: what is left waits for the next mount.")
@click.option("--timeout", type=click.FloatRange(min=0), metavar="SECONDS", help="Wait no longer than this.")
def umount(mountpoint: Path, no_wait: bool, timeout: float | None) -> None:
    """Send everything to Drive, then unmount MOUNTPOINT.

    With uploads left when the time is up (exit code 3) or that cannot work (1) it stays mounted.
    """
    end(resolve(mountpoint), FlushProgress(), wait=not no_wait, timeout_s=timeout)


def end(mountpoint: Path, progress: Shown, *, wait: bool = True, timeout_s: float | None = None) -> None:
    """Flush unless told not to `wait`, unmount, and say so. Raises TimedOut and UserError, with the mount left."""
    mounted = next((one for one in running() if one.record.mountpoint == mountpoint), None)
    if mounted is None:
        record = find_record(mountpoint)
        if record is not None:
            end_supervisor(record)
        _clear_dead(mountpoint)
        return
    started_s = time.monotonic()
    read_only = mounted.record.read_only
    wait = wait and not read_only  # it sends nothing: what is in its cache waits for another mount
    if wait:
        result = ask_flush(mounted, [], None if timeout_s is None else started_s + timeout_s, progress)
        if result["state"] in ("timed-out", "failed", "sign-in"):
            left = files_text(result["files_left"], result["bytes_left"])
            ways = f"'drivefs umount --no-wait {mountpoint}' unmounts now and leaves the rest in the cache"
            if result["state"] == "timed-out":
                raise TimedOut(f"Not on Drive yet: {left}; {mountpoint} stays mounted: wait longer, or {ways}.")
            if result["state"] == "sign-in":
                raise SignInNeeded(
                    f"{result['pause'].rstrip('.')}. Not on Drive yet: {left}; {mountpoint} stays mounted, {ways}."
                )
            first = result["parked"][0]
            raise UserError(
                f"Drive does not take {left} ({first['path']}: {first['reason'].rstrip('.')}), so {mountpoint} "
                f"stays mounted: 'drivefs status' tells more, {ways}."
            )
    left_s = STOP_WAIT_S if wait else 0.0
    if timeout_s is not None:
        left_s = min(left_s, max(0.0, timeout_s - (time.monotonic() - started_s)))
    result = _stop(reach(mounted.record) or mounted.client, left_s)
    if result["files_left"]:
        left = files_text(result["files_left"], result["bytes_left"])
        following = "the next mount that may write" if read_only else "the next mount"
        click.echo(f"Unmounted {mountpoint}; left in {mounted.record.cache_dir} for {following}: {left}.")
    else:
        click.echo(f"Unmounted {mountpoint}; everything is on Drive.")


def _stop(client: Client, timeout_s: float) -> Json:
    """Ask the mount's process to end, and wait until it has, so that its cache can be mounted again at once."""
    try:
        process = os.pidfd_open(client.pid)
    except ProcessLookupError:
        return client.ask("stop", timeout_s=timeout_s)
    try:
        result = client.ask("stop", timeout_s=timeout_s)
        if not has_ended(process, STOP_WAIT_S):
            raise UserError(f"Unmounted, but the process {client.pid} has not ended: 'kill -9 {client.pid}' ends it.")
        return result
    finally:
        os.close(process)


def _clear_dead(mountpoint: Path) -> None:
    entry = find_mount_at(mountpoint)
    if entry is None:
        raise UserError(f"Nothing is mounted on {mountpoint}: 'drivefs status' lists what there is.")
    record = find_record(mountpoint)
    if entry.fs_type != FUSE_TYPE or record is None:
        raise UserError(f"What is mounted on {mountpoint} ({entry.fs_type}) is no mount of this user's drivefs.")
    unmount(mountpoint, lazy=True)
    waiting = survey(record.cache_dir)
    count = waiting.jobs + waiting.writing_files
    text = f"Cleared away the mount on {mountpoint}, whose process had died"
    click.echo(f"{text}; left for the next mount: {files_text(count, waiting.size_bytes)}." if count else f"{text}.")
