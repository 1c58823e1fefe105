"""Programs that draw the small pictures of file managers: for those alone, a folder is not downloaded.

A desktop takes the mount for a local disk, for it knows remote filesystems by name only: GLib nfs, cifs, smb and
fuse.sshfs (`is_remote_fs_type` in gio/glocalfile.c), KDE's KIO nfs, cifs and fuse.kio-fuse (`KMountPoint`). So it has
everything drawn. Any thread may enter.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIX = "thumbnailer"
"""Of the programs that files in /usr/share/thumbnailers name: gdk-pixbuf-thumbnailer, totem-video-thumbnailer, …"""

OTHERS = frozenset({"tumblerd", "gnome-thumbnail-font", "mate-thumbnail-font"})

KDE_WORKERS = frozenset({"kioworker", "kioslave5"})
KDE_PLUGIN = b"thumbnail.so"
"""What such a worker is for stands in its arguments."""


def find_thumbnailer(pid: int) -> str | None:
    """The name of the program that a thread (proc(5)) belongs to if it is one of these; None where nobody can tell.

    By its executable, so that the names of threads do not matter. Of KDE's workers the arguments are read, for which
    the kernel locks their memory: not to be called while a page fault waits for the caller.
    """
    try:
        name = os.path.basename(os.readlink(f"/proc/{pid}/exe")).removesuffix(" (deleted)")
        if name in KDE_WORKERS:
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            return name if KDE_PLUGIN in map(os.path.basename, words) else None
    except OSError:  # it has ended, is another user's, or of another PID namespace
        return None
    return name if name.endswith(SUFFIX) or name in OTHERS else None
