"""Which names a file may have. Pure."""

from __future__ import annotations

from drivefs.errors import InvalidArgument, NameTooLong, NoEntry

NAME_LIMIT_BYTES = 255
TARGET_LIMIT_BYTES = 4095
"""Of a symlink: PATH_MAX without its end (symlink(2))."""


def check_name(name: str) -> None:
    """A name for something new. Raises NameTooLong, or InvalidArgument where it is not UTF-8."""
    if name in ("", ".", "..") or "/" in name or "\0" in name:
        raise InvalidArgument("That is no file name.")
    if _length_bytes(name) > NAME_LIMIT_BYTES:
        raise NameTooLong(f"A name has up to {NAME_LIMIT_BYTES} bytes.")


def check_sought(name: str) -> None:
    """A name that is only looked for. Raises NameTooLong, or NoEntry for what nothing can be called."""
    try:
        check_name(name)
    except InvalidArgument as error:
        raise NoEntry("Nothing has such a name.") from error


def check_target(target: str) -> None:
    """Where a symlink may point. Raises NoEntry, NameTooLong, InvalidArgument."""
    if not target:
        raise NoEntry("A symlink points somewhere.")
    if _length_bytes(target) > TARGET_LIMIT_BYTES:
        raise NameTooLong(f"A symlink's target has up to {TARGET_LIMIT_BYTES} bytes.")


def _length_bytes(text: str) -> int:
    if text.isascii():
        return len(text)
    try:
        return len(text.encode())
    except UnicodeEncodeError as error:
        raise InvalidArgument("Drive's names are Unicode: this one is not UTF-8.") from error
