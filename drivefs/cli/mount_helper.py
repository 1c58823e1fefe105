"""mount.drivefs: what mount(8) runs for `mount -t drivefs` and `-t fuse.drivefs`, and for such lines of /etc/fstab.

    mount.drivefs SOURCE MOUNTPOINT [-sfnv] [-N NAMESPACE] [-o OPTIONS] [-t TYPE]

SOURCE is ACCOUNT or ACCOUNT:FOLDER; `drivefs` and `none` stand for the default account. Of OPTIONS, settings of
drivefs (cache_size=20G, endpoint=…) are taken as such, `setuid=USER` says whose mount it is, and what only concerns
fstab is left out; the rest goes to `drivefs mount -o`.
"""

from __future__ import annotations

import os
import pwd
import sys
from collections.abc import MutableMapping, Sequence

import click

from drivefs.cli import main as drivefs
from drivefs.config import setting_names
from drivefs.errors import UsageError

_DEFAULT_SOURCES = ("", "drivefs", "none")
_FOR_FSTAB = frozenset(
    ("auto", "noauto", "defaults", "nofail", "_netdev", "user", "nouser", "users", "owner", "group")
)
_FOR_FSTAB_PREFIXES = ("x-", "comment=")


def arguments(
    words: Sequence[str], environ: MutableMapping[str, str]
) -> tuple[list[str], pwd.struct_passwd | None, bool]:
    """The arguments of `drivefs` that mount(8)'s `words` mean, whose mount it is (None: ours), and whether it is to
    be left at that (-f). Settings go to `environ`. Raises UsageError."""
    plain: list[str] = []
    options: list[str] = []
    fake = False
    left = iter(words)
    for word in left:
        if word in ("-o", "-t", "-N"):
            value = next(left, "")
            options += value.split(",") if word == "-o" else []
        elif word.startswith("-") and len(word) > 1:
            fake |= "f" in word
        else:
            plain.append(word)
    if len(plain) != 2:
        raise UsageError("mount.drivefs is called by mount(8): mount -t drivefs ACCOUNT MOUNTPOINT [-o OPTIONS].")
    source, mountpoint = plain
    if source.startswith("/"):
        source = os.path.basename(source)  # mount(8) makes a path of a name that lies in its working folder
    account, _, root = source.partition(":")
    owner: pwd.struct_passwd | None = None
    passed: list[str] = []
    for option in filter(None, options):
        name, _, value = option.partition("=")
        if option in _FOR_FSTAB or option.startswith(_FOR_FSTAB_PREFIXES):
            continue
        if name == "setuid":
            try:
                owner = pwd.getpwuid(int(value)) if value.isdecimal() else pwd.getpwnam(value)
            except KeyError:
                raise UsageError(f"There is no user {value!r}: name another one by setuid=USER.") from None
        elif value and name in setting_names() and name != "fsync":
            environ[f"DRIVEFS_{name.upper()}"] = value
        else:
            passed.append(option)
    result = ["mount", mountpoint]
    if account not in _DEFAULT_SOURCES:
        result += ["--account", account]
    if root:
        result += ["--root", root]
    if passed:
        result += ["-o", ",".join(passed)]
    return result, owner, fake


def become(owner: pwd.struct_passwd, environ: MutableMapping[str, str]) -> None:
    """Go on as another user, with that user's folders. Only root may."""
    if owner.pw_uid == os.geteuid():
        return
    os.initgroups(owner.pw_name, owner.pw_gid)
    os.setgid(owner.pw_gid)
    os.setuid(owner.pw_uid)
    for name in [name for name in environ if name.startswith("XDG_")]:
        del environ[name]
    environ.update(HOME=owner.pw_dir, USER=owner.pw_name, LOGNAME=owner.pw_name)


def main() -> None:
    try:
        words, owner, fake = arguments(sys.argv[1:], os.environ)
        if owner is not None:
            become(owner, os.environ)
    except UsageError as error:
        click.echo(f"mount.drivefs: {error}", err=True)
        sys.exit(error.exit_code)
    except PermissionError:
        click.echo("mount.drivefs: Only root may mount for another user (setuid=USER).", err=True)
        sys.exit(1)
    if not fake:
        drivefs(words)
