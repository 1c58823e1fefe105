"""Settings of a mount: flags over environment over file.

Each setting has one name: as a flag `--cache-size`, in the environment `DRIVEFS_CACHE_SIZE`, in the file
`cache_size` (TOML; `config_file()` says where). Nothing here looks at the mount point or at the network.
"""

from __future__ import annotations

import json
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import platformdirs

from drivefs.errors import UsageError
from drivefs.model import TrashLimit
from drivefs.sync.exports import FORMATS, parse_formats

TRANSPORTS = ("auto", "kernel", "libfuse")
FSYNCS = ("local", "drive")
LAYOUTS = ("flat", "colab")
_UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:iB|B)?", re.IGNORECASE)
_AGE = re.compile(r"(\d+(?:\.\d+)?)([dh])")
_SECONDS = {"d": 86_400.0, "h": 3_600.0}
_ACCOUNT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]*")


@dataclass(frozen=True, slots=True)
class Settings:
    """What a mount is made with. All paths are absolute."""

    mountpoint: Path
    account: str = "default"
    subject: str | None = None
    """The person whom a service account stands in for (domain-wide delegation)."""
    root: str | None = None
    """Path or Drive ID of the folder to mount; None: My Drive."""
    layout: str = "flat"
    """flat: My Drive, or `root`, at the top; colab: MyDrive, Shareddrives and `Shared with me`."""
    read_only: bool = False
    cache_dir: Path | None = None
    """None: a folder of the account's own under the user's cache folder."""
    cache_size: int | None = None
    """Bytes that clean content may take on the disk; None: half of what is free. Waiting content is not limited."""
    keep_free: int | None = None
    """Bytes of the cache's disk that stay free of clean content; None: a twentieth of it, 4 GiB at most."""
    allow_other: bool = False
    credentials: Path | None = None
    endpoint: str | None = None
    """Root URL of the API; None: Google's."""
    transport: str = "auto"
    """The way to the kernel: auto takes the best one there is."""
    fsync: str = "local"
    """What fsync(2) waits for: the disk of the cache, or Drive."""
    passthrough: bool = True
    """Whether the kernel may read and write local files itself, where it can: Linux 6.9, as root."""
    options: tuple[str, ...] = ()
    """FUSE's own mount options."""
    export_formats: str = ",".join(FORMATS)
    """As what Google documents show: the first that fits the kind of each."""
    permanent_delete: bool = False
    """Whether what is removed here passes Drive's trash by."""
    uid: int | None = None
    gid: int | None = None
    """Whose all files are; None: the process's."""
    umask: int = 0
    """Permission bits that nothing has, whatever is noted of it."""
    trash_limit: str = "10G"
    """How much, or for how long, files that this mount made and removed stay in Drive's trash."""
    upload_limit: int | None = None
    download_limit: int | None = None
    """Bytes a second of file contents, of the whole mount; None: no limit."""
    network_timeout: float = 15.0
    """Seconds after which a Drive that says nothing is asked anew; a reader is told of it after thrice that or so."""
    stop_timeout: float = 60.0
    """Seconds for uploads after the mount was ended by a signal or by `umount(8)`; the rest waits in the cache."""

    def to_json(self) -> str:
        return json.dumps(asdict(self), default=str)

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """What `to_json` wrote."""
        values: dict[str, Any] = json.loads(text)
        for name in ("mountpoint", "cache_dir", "credentials"):
            values[name] = Path(values[name]) if values[name] is not None else None
        return cls(**{**values, "options": tuple(values["options"])})


def config_file() -> Path:
    """Where the settings file is, whether it exists or not."""
    return Path(platformdirs.user_config_dir("drivefs")) / "config.toml"


# --- how a value is read; each raises ValueError with what it should have been ---


def parse_size(text: str) -> int:
    """Bytes of `20G`, `500M`, `1.5TiB` or `4096`; the units are powers of 1024."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise ValueError("a size such as 20G or 500M")
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _size(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else parse_size(str(value))


def _rate(value: object) -> int:
    try:
        bytes_s = _size(value)
    except ValueError:
        bytes_s = 0
    if bytes_s <= 0:
        raise ValueError("bytes a second, such as 2M or 500K")
    return bytes_s


def parse_trash_limit(text: str) -> TrashLimit:
    """`10G` (a size), `7d` or `12h` (an age), or `none`. Raises ValueError."""
    if text == "none":
        return TrashLimit()
    age = _AGE.fullmatch(text.strip())
    if age is not None:
        return TrashLimit(age_s=float(age[1]) * _SECONDS[age[2]])
    try:
        return TrashLimit(size_bytes=parse_size(text))
    except ValueError as error:
        raise ValueError("a size such as 10G, an age such as 7d or 12h, or none") from error


def _trash_limit(value: object) -> str:
    parse_trash_limit(str(value))
    return str(value)


def _formats(value: object) -> str:
    parts = value if isinstance(value, list | tuple) else [value]
    return ",".join(parse_formats(",".join(map(str, parts))))


def _text(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise ValueError("a text")
    return value


def parse_account(value: object) -> str:
    """The name of an account, which becomes that of a file. Raises ValueError."""
    if not _ACCOUNT.fullmatch(_text(value)):
        raise ValueError("a name of letters, digits and any of ._@+-")
    return _text(value)


def _path(value: object) -> Path:
    return Path(_text(value)).expanduser().absolute()


def _truth(value: object) -> bool:
    known = {"1": True, "true": True, "yes": True, "on": True, "0": False, "false": False, "no": False, "off": False}
    if isinstance(value, bool):
        return value
    if str(value).lower() not in known:
        raise ValueError("yes or no")
    return known[str(value).lower()]


def _number(value: object) -> int:
    if not re.fullmatch(r"\d{1,9}", str(value)):
        raise ValueError("a number such as 1000")
    return int(str(value))


def _mask(value: object) -> int:
    if not re.fullmatch(r"[0-7]{1,4}", str(value)) or int(str(value), 8) > 0o777:
        raise ValueError("permission bits in octal, such as 022")
    return int(str(value), 8)


def _seconds(value: object) -> float:
    try:
        seconds = float(str(value))
    except ValueError:
        seconds = -1.0
    if not 0 <= seconds < float("inf"):
        raise ValueError("a number of seconds")
    return seconds


def _timeout(value: object) -> float:
    if _seconds(value) == 0:
        raise ValueError("a number of seconds above 0")
    return _seconds(value)


def _endpoint(value: object) -> str:
    if not re.match(r"https?://[^/]", _text(value)):
        raise ValueError("a URL such as http://127.0.0.1:8080/")
    return _text(value)


def _transport(value: object) -> str:
    if value not in TRANSPORTS:
        raise ValueError(f"one of {', '.join(TRANSPORTS)}")
    return str(value)


def _fsync(value: object) -> str:
    if value not in FSYNCS:
        raise ValueError(f"one of {', '.join(FSYNCS)}")
    return str(value)


def _layout(value: object) -> str:
    if value not in LAYOUTS:
        raise ValueError(f"one of {', '.join(LAYOUTS)}")
    return str(value)


def _options(value: object) -> tuple[str, ...]:
    parts = value if isinstance(value, list | tuple) else str(value).split(",")
    return tuple(option for part in parts for option in str(part).split(",") if option)


_PARSERS: Mapping[str, Callable[[object], object]] = {
    "account": parse_account,
    "subject": _text,
    "root": _text,
    "layout": _layout,
    "read_only": _truth,
    "cache_dir": _path,
    "export_formats": _formats,
    "permanent_delete": _truth,
    "uid": _number,
    "gid": _number,
    "umask": _mask,
    "trash_limit": _trash_limit,
    "cache_size": _size,
    "keep_free": _size,
    "upload_limit": _rate,
    "download_limit": _rate,
    "allow_other": _truth,
    "credentials": _path,
    "endpoint": _endpoint,
    "transport": _transport,
    "fsync": _fsync,
    "passthrough": _truth,
    "options": _options,
    "network_timeout": _timeout,
    "stop_timeout": _seconds,
}
assert set(_PARSERS) == {field.name for field in fields(Settings)} - {"mountpoint"}

_IN_OPTIONS: Mapping[str, tuple[str, bool | str]] = {
    "ro": ("read_only", True),
    "rw": ("read_only", False),
    "allow_other": ("allow_other", True),
    "passthrough": ("passthrough", True),
    "nopassthrough": ("passthrough", False),
    "fsync=local": ("fsync", "local"),
    "fsync=drive": ("fsync", "drive"),
}
"""Mount options (mount(8)) that are settings of ours."""


def setting_names() -> frozenset[str]:
    """All settings but the mount point, as the environment and the settings file name them."""
    return frozenset(_PARSERS)


def load_settings(mountpoint: Path, flags: Mapping[str, object], environ: Mapping[str, str], file: Path) -> Settings:
    """The settings of a mount; a flag that is None was not given. Raises UsageError, which names the source."""
    values: dict[str, Any] = {}
    for name, value in _read_file(file).items():
        if name not in _PARSERS:
            raise UsageError(f"There is no setting {name!r}; remove it from {file}.")
        values[name] = _parsed(name, value, f"{name} in {file}")
    for name in _PARSERS:
        variable = f"DRIVEFS_{name.upper()}"
        if environ.get(variable):
            values[name] = _parsed(name, environ[variable], variable)
    for name, value in flags.items():
        if value is not None:
            values[name] = _parsed(name, value, f"--{name.replace('_', '-')}")
    plain: list[str] = []
    for option in values.get("options", ()):
        name, _, value = option.partition("=")
        if option in _IN_OPTIONS:
            name, meant = _IN_OPTIONS[option]
            values[name] = meant
        elif name in ("uid", "gid", "umask"):
            values[name] = _parsed(name, value, f"The mount option {name}")
        else:
            plain.append(option)
    values["options"] = tuple(plain)
    if values.get("layout") == "colab" and values.get("root") is not None:
        raise UsageError("--root shows one folder, and --layout colab all of Drive: leave one of them out.")
    return Settings(mountpoint=mountpoint, **values)


def _parsed(name: str, value: object, source: str) -> object:
    try:
        return _PARSERS[name](value)
    except ValueError as error:
        raise UsageError(f"{source} is {str(value)!r}, and should be {error}.") from None


def _read_file(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text())
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise UsageError(f"The settings file {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise UsageError(f"The settings file {file} is not TOML: {error}.") from None
