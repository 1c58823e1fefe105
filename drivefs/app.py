"""A mount's process: puts the parts together, and ends them in order. The only place that starts threads.

`drivefs.daemon` calls `run` in the background, `mount --foreground` in its own process. Neither a terminal library
nor the emulator is loaded here: the process is to stay small.

Threads: FUSE's own and the main thread in `serve`; the uploader's dispatcher and its transfers; those of files that
are sent while they are written; downloads; Drive's
changes; housekeeping; the control socket; and one that waits for signals, which are blocked everywhere else.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, replace
from pathlib import Path

from drivefs.answers import Answers
from drivefs.config import Settings, parse_trash_limit
from drivefs.control import Json, Server
from drivefs.drive.google import GoogleDrive
from drivefs.errors import (
    CacheFull,
    CacheInUse,
    DrivefsError,
    StoreError,
    UserError,
)
from drivefs.first_contact import default_cache_folder, meet_drive
from drivefs.fuse import kernel, libfuse
from drivefs.fuse.options import MountOptions
from drivefs.handover import Handover
from drivefs.model import Priority
from drivefs.mounts import MountBusy, clear_dead, unmount
from drivefs.records import Record, write_record
from drivefs.signin.accounts import login_command
from drivefs.signin.find import find_sign_in
from drivefs.store.news import EVERY_INODE
from drivefs.store.room import Room
from drivefs.store.store import Store
from drivefs.supervisor import ENDING, READY, Link
from drivefs.sync.downloader import Downloader
from drivefs.sync.exports import parse_formats
from drivefs.sync.listing import ASSISTANTS
from drivefs.sync.mirror import Mirror
from drivefs.sync.streaming import AT_ONCE as STREAMED_AT_ONCE
from drivefs.sync.streaming import Streaming
from drivefs.sync.trash import Trash
from drivefs.sync.uploader import LARGE_AT_ONCE, SMALL_AT_ONCE, Uploader
from drivefs.sync.warm import Warmer
from drivefs.vfs.vfs import Vfs

log = logging.getLogger(__name__)

SYNC_S = 5.0
"""What a power cut may take of what was written without fsync (design, promise 2)."""

ROOM_S = 0.5
"""Between two looks at what the cache takes of its disk."""

DOWNLOADS_AT_ONCE = 64
WARMED_AT_ONCE = 32
REQUESTS_AT_ONCE = 16
LEAVE_S = 5.0
"""After a signal the mount is let go by force when those who use it have not left it in this time."""

SIGNALS = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}


# --- one mount ---


class Mounted:
    """The parts of one mount. `run` is its life; after it the object is spent."""

    def __init__(self, settings: Settings, log_file: Path | None, supervisor: Link | None) -> None:
        """Opens the cache and gets to know Drive. Raises DrivefsError; then nothing is left open."""
        self._settings = settings
        self._supervisor = supervisor
        found = find_sign_in(
            settings.credentials, settings.account, subject=settings.subject, read_only=settings.read_only
        )
        if found.reads_only and not settings.read_only:
            raise UserError(
                f"The sign-in of {found.label} may only read Drive: mount with --read-only, or sign in anew with "
                f"'{login_command(settings.account)} --scope full'."
            )
        self._settings = settings = replace(settings, endpoint=settings.endpoint or found.endpoint)
        folder = settings.cache_dir or default_cache_folder(settings, found.who)
        self._drive = GoogleDrive(
            found.credentials,
            endpoint=settings.endpoint,
            reply_timeout_s=settings.network_timeout,
            patience_s=2 * settings.network_timeout,
            upload_bytes_s=settings.upload_limit,
            download_bytes_s=settings.download_limit,
            read_only=settings.read_only,
        )
        self.record = Record(
            mountpoint=settings.mountpoint,
            cache_dir=folder,
            log=log_file,
            account=found.label,
            subject=settings.subject,
            root=settings.root,
            endpoint=settings.endpoint,
            read_only=settings.read_only,
            started_s=time.time(),
            supervisor=supervisor.pid if supervisor is not None else None,
            restarts=supervisor.restarts if supervisor is not None else 0,
        )
        self._handover = Handover(supervisor)
        self._store = Store(folder)
        try:
            if self._handover.kept() is not None:
                self._store.news.keep(EVERY_INODE)
            self.recovered = self._store.recover({handle.inode for handle in self._handover.handles.found})
            if self._handover.kept() is None:
                self._store.requests.forget_all()
            meet_drive(self._store, settings, found.who, found.credentials)
            self._assemble()
        except BaseException:
            self._drive.close()
            self._store.close()
            raise

    def _assemble(self) -> None:
        settings, store = self._settings, self._store
        self._downloads = ThreadPoolExecutor(DOWNLOADS_AT_ONCE, "download")
        self._uploads = ThreadPoolExecutor(SMALL_AT_ONCE + LARGE_AT_ONCE, "upload")
        self._requests = ThreadPoolExecutor(REQUESTS_AT_ONCE, "control")
        self._mirror = Mirror(store, self._drive, formats=parse_formats(settings.export_formats))
        self._mirror.adopt_formats()
        self._mirror.trash.ensure_place()
        self._room = Room(store, limit_bytes=settings.cache_size, keep_free_bytes=settings.keep_free)
        self._downloader = Downloader(store, self._drive, self._downloads, free_bytes=self._room.free_bytes)
        trash = Trash(store, self._drive.at(Priority.PUBLISH), parse_trash_limit(settings.trash_limit))
        self._ahead = ThreadPoolExecutor(STREAMED_AT_ONCE, "ahead")
        self._streaming = Streaming(store, self._drive, self._ahead)
        self._uploader = Uploader(
            store,
            self._drive,
            self._mirror,
            self._downloader,
            trash,
            self._streaming,
            self._uploads,
            delete=settings.permanent_delete,
        )
        self._vfs = Vfs(
            store,
            self._mirror,
            self._downloader,
            uid=os.getuid() if settings.uid is None else settings.uid,
            gid=os.getgid() if settings.gid is None else settings.gid,
            umask=settings.umask,
            read_only=settings.read_only,
            fsync_drive=settings.fsync == "drive",
            handles=self._handover.handles,
            room=self._room,
        )
        self._warming = ThreadPoolExecutor(WARMED_AT_ONCE, "warm")
        self._answers = Answers(
            self.record,
            room=self._room,
            upload_bytes_s=settings.upload_limit,
            download_bytes_s=settings.download_limit,
            store=store,
            mirror=self._mirror,
            uploader=self._uploader,
            streaming=self._streaming,
            documents=self._downloader.documents,
            warmer=Warmer(store, self._mirror, self._downloader, self._warming),
            snapshot_open=self._vfs.snapshot_open,
            resolve=self._vfs.tree.resolve,
        )
        self._server = Server(store.folder, self._answers.handlers(), self._requests)
        self._stop = threading.Event()
        self._served = threading.Event()  # `serve` has returned
        self._ending = threading.Lock()  # taken once, by whoever ends the mount

    def run(self, on_ready: Callable[[Json], None]) -> None:
        """Serve until unmounted or told to end by a signal. Raises UserError when it cannot be mounted."""
        settings = self._settings
        waiting = self._store.journal.left()
        # Before the uploader looks: what the kernel may write is not to be sent.
        self._taken_over = self._vfs.files.take_over()
        threads = [
            threading.Thread(target=self._uploader.run, args=(self._stop,), name="uploader"),
            threading.Thread(target=self._streaming.run, args=(self._stop,), name="streaming"),
            threading.Thread(target=self._mirror.run, args=(self._stop,), name="changes"),
            threading.Thread(target=self._mirror.listings.run, args=(self._stop,), name="listing"),
            *(
                threading.Thread(target=self._mirror.listings.assist, args=(self._stop,), name="listing")
                for _ in range(ASSISTANTS)
            ),
            threading.Thread(target=self._housekeeping, name="housekeeping"),
            threading.Thread(target=self._keep_room, name="room"),
        ]
        control = threading.Thread(target=self._server.run, name="control")
        self._threads = threads
        signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
        for thread in threads:
            thread.start()
        threading.Thread(target=self._wait_for_signal, name="signals", daemon=True).start()

        def ready() -> None:
            # No sooner: who asked it to end would find nothing to unmount yet.
            threads.append(control)
            control.start()
            write_record(self.record)
            self._tell(READY)
            log.info("Mounted on %s, cache %s", settings.mountpoint, self._store.folder)
            on_ready(
                {
                    "pid": os.getpid(),
                    "endpoint": self.record.endpoint,
                    "cache_dir": str(self._store.folder),
                    "supervisor": self.record.supervisor,
                    "waiting_files": waiting.jobs,
                    "waiting_bytes": waiting.size_bytes,
                    "recovered": asdict(self.recovered),
                    "damaged": str(self._store.damaged) if self._store.damaged is not None else None,
                }
            )

        options = MountOptions(
            allow_other=settings.allow_other,
            read_only=settings.read_only,
            passthrough=settings.passthrough,
            extra=settings.options,
        )
        try:
            if self.record.restarts and self._handover.kept() is None:
                # No sooner: in between, what is written lands in the folder below the mount.
                clear_dead(settings.mountpoint)
            self._serve(options, ready)
        except BaseException:
            self._end(0.0)
            raise
        self._tell(ENDING)
        self._served.set()
        stopping_s = self._answers.stopping_s
        self._end(settings.stop_timeout if stopping_s is None else stopping_s)

    def _serve(self, options: MountOptions, on_ready: Callable[[], None]) -> None:
        """By the transport that was asked for: auto falls back to libfuse. Raises UserError."""
        mountpoint, transport = self._settings.mountpoint, self._settings.transport
        if transport in ("auto", "kernel"):
            answered = threading.Event()

            def ready() -> None:
                answered.set()
                on_ready()

            try:
                kernel.serve(self._vfs, mountpoint, options, ready, _start_thread, self._handover, self._taken_over)
            except UserError as error:
                if transport == "kernel" or answered.is_set():
                    raise
                log.info("The kernel's own protocol cannot be used, libfuse is tried: %s", error)
            else:
                return
        libfuse.serve(self._vfs, mountpoint, options, on_ready)

    def _tell(self, word: bytes) -> None:
        if self._supervisor is not None:
            self._supervisor.tell(word)

    # --- threads ---

    def _housekeeping(self) -> None:
        while not self._stop.wait(SYNC_S):
            try:
                self._vfs.snapshot_due()
                self._store.checkpoint()
                self._room.tidy()
            except CacheFull as error:
                log.warning("The disk of the cache is full, and its housekeeping is tried again: %s", error)
            except (DrivefsError, OSError) as error:
                log.error("Housekeeping of the cache failed, and is tried again: %s", error)

    def _keep_room(self) -> None:
        """Beside the housekeeping, whose flushes may take their time on a disk that is getting full."""
        while not self._stop.wait(ROOM_S):
            try:
                self._room.tidy(soon=True)
            except (DrivefsError, OSError) as error:
                log.error("The cache could not be kept within its limits, and is tried again: %s", error)

    def _wait_for_signal(self) -> None:
        first = signal.sigwaitinfo(SIGNALS)
        self._tell(ENDING)
        log.info("Ending: %s", signal.Signals(first.si_signo).name)
        mountpoint = self._settings.mountpoint
        try:
            try:
                unmount(mountpoint)
            except MountBusy:
                unmount(mountpoint, lazy=True)
        except UserError as error:
            log.warning("%s", error)
        if not self._served.wait(LEAVE_S):
            # Somebody still has files open on it, and the kernel keeps `serve` waiting for them.
            threading.Thread(target=self._leave, name="leaving").start()
        # A second signal ends it at once: the cache is made for that. But one that was sent to all processes comes
        # here by itself, and once more by the supervisor.
        supervisor = self.record.supervisor
        passed_on = {first.si_pid == supervisor}
        while (again := signal.sigwaitinfo(SIGNALS).si_pid == supervisor) not in passed_on:
            passed_on.add(again)
        os._exit(1)

    def _leave(self) -> None:
        self._end(self._settings.stop_timeout)
        logging.shutdown()
        os._exit(0)

    # --- the end ---

    def _sync_early(self) -> None:
        """Whoever ends a machine kills what takes its time, and cuts the power then."""
        try:
            self._store.sync()
        except StoreError as error:
            log.error("The end begins with data that is not on the disk: %s", error)

    def _end(self, flush_s: float) -> None:
        """Publish for up to `flush_s`, then end the threads and close the store. The second caller waits."""
        with self._ending:
            if self._stop.is_set():
                return
            self._room.end_waits()
            if self._served.is_set():
                self._vfs.close()
            else:
                self._vfs.snapshot_open()
            self._sync_early()
            if flush_s > 0:
                for _ in self._answers.publish(flush_s):
                    pass
            self._vfs.end_waits()
            left = self._store.journal.left()
            log.info("Ended with %d files (%d bytes) waiting for Drive", left.jobs, left.size_bytes)
            self._answers.ended.set()
            self._stop.set()
            self._mirror.wake()
            self._server.close()
            self._store.journal.changed.set()
            self._requests.shutdown(wait=True)
            # Ends what is under way: its records say where to go on.
            self._drive.close()
            for thread in self._threads:
                thread.join()
            self._uploads.shutdown(wait=True)
            self._ahead.shutdown(wait=True)
            # Before the downloads that it waits for.
            self._warming.shutdown(wait=True, cancel_futures=True)
            self._downloads.shutdown(wait=True, cancel_futures=True)
            self._store.close()


def _start_thread(body: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=body, name=name)
    thread.start()
    return thread


def sentence(error: DrivefsError) -> UserError:
    """What a person is told of an error that ends the mount, with a way out."""
    text = str(error).rstrip(".")
    if isinstance(error, UserError):
        return error
    if isinstance(error, CacheInUse):
        return UserError(f"{text}: 'drivefs status' shows it; end it, or give another folder with --cache-dir.")
    if isinstance(error, CacheFull):
        return UserError(f"{text}: make room on the disk of the cache, or give another folder with --cache-dir.")
    if isinstance(error, StoreError):
        return UserError(f"{text}: give another folder with --cache-dir.")
    return UserError(f"{text}.")


def run(
    settings: Settings, log_file: Path | None, on_ready: Callable[[Json], None], supervisor: Link | None = None
) -> None:
    """Mount, serve, end. Raises UserError."""
    os.umask(0o077)
    try:
        Mounted(settings, log_file, supervisor).run(on_ready)
    except DrivefsError as error:
        raise sentence(error) from error
