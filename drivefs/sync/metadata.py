"""What Drive knows of a node besides its bytes, and how that is written there.

The form on Drive: the name and `modifiedTime` are Drive's own. What Drive has no field for stands in the file's
appProperties, so that a fresh mount finds it again:

    mode      permission bits in octal, where they differ from 0644 (files, symlinks) or 0755 (folders)
    mtime_ns  modification time in nanoseconds, where it has a part below Drive's millisecond; counts only while it
              agrees with modifiedTime, so a change made elsewhere is not hidden by it
    symlink   "1" marks a small file of type inode/symlink whose content is the target
    target    a symlink's target once more, where it fits, so that reading a link needs no download
    x:NAME    the own extended attribute NAME: "u" and the text, or "b" and base64url

The description and the star are Drive's own fields, and belong to what is on Drive, not to what has its name here: a
temporary file that is renamed over another one's name gets them. What Drive last said of them is the truth, but for
what was set here since, which stands as the attribute of its name (FIELDS) until Drive has it.

A property's key and value have 124 bytes of UTF-8 together, and a file has 30 of one app (drive-api: Fields).
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, TypedDict

from drivefs.errors import InvalidArgument, NoSpace
from drivefs.model import FOLDER_MIME, LINK_EXPORTS, SHORTCUT_MIME, DriveId, Kind, Metadata, RemoteFile, Trash
from drivefs.store.node import Node
from drivefs.sync.exports import FORMATS, export_of, is_document, link_file, with_extension
from drivefs.sync.names import remote_name

PROPERTY_LIMIT_BYTES = 124
XATTR_LIMIT = 20
"""Own extended attributes a node: 30 properties less those above, with room for later ones."""

DESCRIPTION = "user.drivefs.description"
STARRED = "user.drivefs.starred"
FIELDS = frozenset({DESCRIPTION, STARRED})
"""Fields of Drive's that are extended attributes here; they take none of the places of the own ones."""

FIELD_LIMIT_BYTES = 65_536
"""No extended attribute can be longer (XATTR_SIZE_MAX in linux/limits.h): a longer description is not shown."""

SYMLINK_MIME = "inode/symlink"
XATTR_PREFIX = "x:"
_OWN_KEYS = frozenset({"mode", "mtime_ns", "symlink", "target"})
_DEFAULT_MODE = {Kind.FILE: 0o644, Kind.FOLDER: 0o755, Kind.SYMLINK: 0o644}
_MS = 1_000_000


def xattr_property(name: str, value: bytes) -> tuple[str, str]:
    """Key and value of the appProperty that keeps an extended attribute. Raises NoSpace when it does not fit."""
    text: str | None
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = None
    if text is not None and text.isprintable():
        encoded = "u" + text
    else:
        encoded = "b" + base64.urlsafe_b64encode(value).decode()
    key = XATTR_PREFIX + name
    if len(key.encode()) + len(encoded.encode()) > PROPERTY_LIMIT_BYTES:
        raise NoSpace(
            f"The attribute {name} does not fit: Drive keeps {PROPERTY_LIMIT_BYTES} bytes of name and value together."
        )
    return key, encoded


def _xattr(encoded: str) -> bytes | None:
    if encoded.startswith("u"):
        return encoded[1:].encode()
    try:
        return base64.b64decode(encoded[1:], altchars=b"-_", validate=True)
    except binascii.Error:
        return None  # not of our making


@dataclass(frozen=True, slots=True)
class Attributes:
    """What the mount shows of an item of Drive."""

    kind: Kind
    mode: int
    size_bytes: int
    mtime_ns: int
    target: str | None
    xattrs: Mapping[str, bytes]
    name: str
    """Drive's, with the extension that a document has only here."""
    export: str | None
    points_to: DriveId | None


def attributes(remote: RemoteFile, formats: Sequence[str] = FORMATS) -> Attributes:
    """The local view of an item. A Google document shows as a file that is its export in the first of `formats` that
    fits, or leads to its page; a shortcut as a symlink."""
    properties = remote.app_properties
    target = export = points_to = None
    size_bytes = max(remote.size_bytes or 0, 0)
    if remote.mime_type == FOLDER_MIME:
        kind = Kind.FOLDER
    elif remote.mime_type == SHORTCUT_MIME:
        kind = Kind.SYMLINK
        points_to = remote.shortcut_target
        target = remote.web_view_link or f"https://drive.google.com/open?id={points_to or remote.id}"
    elif is_document(remote.mime_type):
        kind = Kind.FILE
        target = remote.web_view_link or f"https://drive.google.com/open?id={remote.id}"
        export = export_of(remote.mime_type, formats)
        size_bytes = len(link_file(export, remote.name, target)) if export in LINK_EXPORTS else 0
    elif properties.get("symlink") == "1":
        kind = Kind.SYMLINK
        target = properties.get("target")
    else:
        kind = Kind.FILE
    mode = _DEFAULT_MODE[kind]
    with suppress(KeyError, ValueError):  # absent, or not of our making: the default stands
        mode = int(properties["mode"], 8) & 0o7777
    mtime_ns = remote.modified_ns
    exact = properties.get("mtime_ns", "")
    if exact.isdecimal() and len(exact) < 20 and int(exact) // _MS == mtime_ns // _MS:
        mtime_ns = int(exact)
    xattrs: dict[str, bytes] = {}
    for key, encoded in properties.items():
        value = _xattr(encoded) if key.startswith(XATTR_PREFIX) else None
        if value is not None:
            xattrs[key.removeprefix(XATTR_PREFIX)] = value
    if kind is Kind.SYMLINK and target is not None:
        size_bytes = len(target.encode())
    name = with_extension(remote.name, export)
    return Attributes(kind, mode, size_bytes, mtime_ns, target, xattrs, name, export, points_to)


def remote_meta(remote: RemoteFile) -> str:
    """What stands in the column `remote_meta`: times, own properties and fields, to find later what differs."""
    own = {
        key: value for key, value in remote.app_properties.items() if key in _OWN_KEYS or key.startswith(XATTR_PREFIX)
    }
    known: dict[str, object] = {
        "modified_ms": remote.modified_ns // _MS,
        "mime_type": remote.mime_type,
    }
    if own:
        known["properties"] = own
    if remote.description and len(remote.description.encode()) <= FIELD_LIMIT_BYTES:
        known["description"] = remote.description
    if remote.starred:
        known["starred"] = True
    return json.dumps(known, sort_keys=True, separators=(",", ":"))  # a row of each file


def remote_mime_type(node: Node) -> str | None:
    """Drive's type of what it has of a node; None when it has said nothing yet."""
    mime_type = _known(node).get("mime_type")
    return mime_type if isinstance(mime_type, str) else None


def fields(node: Node, xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The description and the star of a node, where it has any, as extended attributes."""
    return {name: value for name, value in _fields(node, xattrs).items() if value not in _UNSET}


def without_fields(xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    """The own ones alone."""
    return {name: value for name, value in xattrs.items() if name not in FIELDS}


def field_value(name: str, value: bytes) -> bytes:
    """What is kept of a field that is set. Raises InvalidArgument for what it cannot be."""
    if name == STARRED and value not in (b"0", b"1"):
        raise InvalidArgument("The attribute starred is 1 or 0.")
    try:
        value.decode()
    except UnicodeDecodeError as error:
        raise InvalidArgument("The attribute description is text in UTF-8.") from error
    return value


def unset_field(name: str) -> bytes:
    """The value of a field that is not set."""
    return b"0" if name == STARRED else b""


def told_fields(node: Node, xattrs: Mapping[str, bytes]) -> list[str]:
    """Of the fields that were set here, those that Drive has."""
    known = _fields(node, {})
    return [name for name in FIELDS & xattrs.keys() if xattrs[name] == known[name]]


_UNSET = (b"", b"0")


def _fields(node: Node, xattrs: Mapping[str, bytes]) -> dict[str, bytes]:
    known = _known(node)
    remote = {DESCRIPTION: known.get("description", "").encode(), STARRED: b"1" if known.get("starred") else b"0"}
    return remote | {name: value for name, value in xattrs.items() if name in FIELDS}


def _known(node: Node) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(node.remote_meta) if node.remote_meta else {}
    return {"modified_ms": None, "properties": {}} | found


def node_values(remote: RemoteFile, shown: Attributes) -> dict[str, object]:
    """The columns of a node that is new here, but for its folder and name."""
    return {
        "kind": shown.kind.value,
        "mode": shown.mode,
        "size_bytes": shown.size_bytes,
        "mtime_ns": shown.mtime_ns,
        "ctime_ns": shown.mtime_ns,
        "target": shown.target,
        "listed": False,
        "writable": remote.can_edit,
        "ours": False,
        "change": 0,
        "drive_id": remote.id,
        "confirmed_ns": remote.created_ns,
        "revision": remote.revision,
        "md5": remote.md5,
        "remote_name": remote.name,
        "remote_parent": remote.parent,
        "remote_meta": remote_meta(remote),
        "remote_version": remote.version,
        "export": shown.export,
        "points_to": shown.points_to,
        "kept": kept(remote),
        "remote_trashed": 1 if remote.put_into_trash else None,
    }


def kept(remote: RemoteFile) -> int | None:
    """The column of that name."""
    return None if (remote.can_delete if remote.trashed else remote.can_trash) else 1


def _properties(node: Node, xattrs: Mapping[str, bytes]) -> dict[str, str]:
    properties = dict(xattr_property(name, value) for name, value in without_fields(xattrs).items())
    if node.mode != _DEFAULT_MODE[node.kind]:
        properties["mode"] = f"{node.mode:o}"
    if node.mtime_ns % _MS:
        properties["mtime_ns"] = str(node.mtime_ns)
    if node.kind is Kind.SYMLINK and node.ours and node.target is not None:
        properties["symlink"] = "1"
        if len(b"target") + len(node.target.encode()) <= PROPERTY_LIMIT_BYTES:
            properties["target"] = node.target
    return properties


def to_create(node: Node, xattrs: Mapping[str, bytes]) -> Metadata:
    """Everything that Drive must be told of a node that it does not have."""
    mime_type = {Kind.FOLDER: FOLDER_MIME, Kind.SYMLINK: SYMLINK_MIME}.get(node.kind)
    return Metadata(
        name=wanted_name(node),
        mime_type=mime_type,
        modified_ns=node.mtime_ns,
        app_properties=_properties(node, xattrs) or None,
        **_changed_fields(node, xattrs),
    )


def to_update(node: Node, xattrs: Mapping[str, bytes], *, with_content: bool, in_trash: bool) -> Metadata:
    """What differs from what Drive has. `with_content`: bytes go with it, which would set modifiedTime to now.
    `in_trash`: it may stay there."""
    known = _known(node)
    wanted = _properties(node, xattrs)
    changed: dict[str, str | None] = {
        key: value for key, value in wanted.items() if known["properties"].get(key) != value
    }
    changed |= {key: None for key in known["properties"] if key not in wanted}
    name = wanted_name(node)
    modified = with_content or known["modified_ms"] != node.mtime_ns // _MS
    return Metadata(
        name=name if name != node.remote_name else None,
        modified_ns=node.mtime_ns if modified else None,
        app_properties=changed or None,
        trashed=False if node.remote_trashed and not in_trash else None,
        **_changed_fields(node, xattrs),
    )


def _changed_fields(node: Node, xattrs: Mapping[str, bytes]) -> _Fields:
    known, wanted = _fields(node, {}), _fields(node, xattrs)
    return {
        "description": wanted[DESCRIPTION].decode() if wanted[DESCRIPTION] != known[DESCRIPTION] else None,
        "starred": wanted[STARRED] == b"1" if wanted[STARRED] != known[STARRED] else None,
    }


class _Fields(TypedDict):
    description: str | None
    starred: bool | None


@dataclass(frozen=True, slots=True)
class Merged:
    """What a node and its own extended attributes become where Drive's were changed too."""

    mode: int
    mtime_ns: int
    xattrs: Mapping[str, bytes]


def merged(node: Node, xattrs: Mapping[str, bytes], theirs: Attributes, *, with_time: bool) -> Merged:
    """Each is Drive's, unless it was changed here since Drive's was last known; the time only `with_time`."""
    known = _known(node)
    before, here = known["properties"], _properties(node, xattrs)

    def same(key: str) -> bool:
        return bool(before.get(key) == here.get(key))

    untimed = known["modified_ms"] == node.mtime_ns // _MS and same("mtime_ns")
    names = {name for name in xattrs.keys() | theirs.xattrs.keys() if name not in FIELDS}
    sources = {name: theirs.xattrs if same(XATTR_PREFIX + name) else xattrs for name in names}
    return Merged(
        mode=theirs.mode if same("mode") else node.mode,
        mtime_ns=theirs.mtime_ns if with_time and untimed else node.mtime_ns,
        xattrs={name: source[name] for name, source in sources.items() if name in source},
    )


def told_place(parent: DriveId | None, name: str) -> str:
    """A folder and a name as the journal notes that Drive was told of them (`tried_md5`)."""
    return f"={parent}/{name}"


def wanted_name(node: Node) -> str:
    """The name that the node should have on Drive; in the trash it keeps the one that it had."""
    if node.trash is Trash.PUT and node.remote_name is not None:
        return node.remote_name
    return remote_name(node.name or "", node.remote_name, node.drive_id, node.export)
