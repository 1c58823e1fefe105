"""Names on Drive and names in the mount. Pure.

Drive allows what a filesystem cannot show: `/`, NUL, `.`, `..`, an empty name, more than 255 bytes, and the same
name twice in a folder. The rule, both ways:

- `/`, NUL, `.` and `..` show as their look-alikes `／`, `␀`, `．`, `．．`; a look-alike that is really in the name
  has `‛` before it. An empty name shows as `␀`.
- A name that is too long, or taken in its folder by an older item, shows with `~` and the item's Drive ID before
  its extension.
- A name that was not changed in the mount is not changed on Drive.
"""

from __future__ import annotations

import re
from pathlib import PurePosixPath

from drivefs.model import DriveId

NAME_LIMIT_BYTES = 255
_QUOTE = "‛"
_SHOWN = {"/": "／", "\0": "␀"}
_MEANT = {shown: meant for meant, shown in _SHOWN.items()}
_DOTS = {".": "．", "..": "．．"}
_MEANT_DOTS = {shown: meant for meant, shown in _DOTS.items()}
_TO_SHOW = re.compile("[/\0]|[／␀]")
_TO_MEAN = re.compile(f"{_QUOTE}?[／␀]")


def shown_name(name: str) -> str:
    """How a name of Drive shows in the mount, before length and twins are looked at."""
    if name in _DOTS:
        return _DOTS[name]
    if name in _MEANT_DOTS:
        return _QUOTE + name
    shown = _TO_SHOW.sub(lambda found: _SHOWN.get(found[0]) or _QUOTE + found[0], name)
    # What Drive calls text may hold lone surrogates, which no file name can.
    return shown.encode(errors="replace").decode() or "␀"


def told_apart(shown: str, drive_id: DriveId) -> str:
    """`shown` with the Drive ID before its extension, within 255 bytes."""
    suffix = PurePosixPath(shown).suffix
    if len(suffix.encode()) > 20:
        suffix = ""
    mark = f"~{drive_id}".replace("/", "_") + suffix
    stem = shown.removesuffix(suffix).encode()[: NAME_LIMIT_BYTES - len(mark.encode())]
    return stem.decode(errors="ignore") + mark


def local_name(name: str, drive_id: DriveId, *, taken: bool) -> str:
    """The name under which an item of Drive shows; `taken`: another one has the plain name."""
    shown = shown_name(name)
    if taken or len(shown.encode()) > NAME_LIMIT_BYTES:
        return told_apart(shown, drive_id)
    return shown


def remote_name(
    name: str, known: str | None = None, drive_id: DriveId | None = None, extension: str | None = None
) -> str:
    """The name on Drive that a local name means. `known` is the one that it has there, if it is there; `extension`
    is one that only the local name has."""
    if known is not None:
        shown = shown_name(known if extension is None else f"{known}.{extension}")
        if name == shown or (drive_id is not None and name == told_apart(shown, drive_id)):
            return known
    if extension is not None and name.endswith(f".{extension}") and len(name) > len(extension) + 1:
        name = name.removesuffix(f".{extension}")
    if name in _MEANT_DOTS:
        return _MEANT_DOTS[name]
    if name.startswith(_QUOTE) and name[1:] in _MEANT_DOTS:
        return name[1:]
    return _TO_MEAN.sub(lambda found: _MEANT.get(found[0]) or found[0][-1], name)
