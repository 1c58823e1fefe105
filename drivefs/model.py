"""The words that all rooms share: identifiers, kinds, and frozen records.

Nothing here does anything. Times are nanoseconds since the epoch, sizes and offsets are bytes, ranges are
half open.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum, IntEnum
from typing import NamedTuple, NewType

Inode = NewType("Inode", int)
"""Number of a node in the local tree; stable for the life of the cache. 1 is the mount's root."""

Generation = NewType("Generation", int)
"""Number of one local content file; never used twice in a cache."""

DriveId = NewType("DriveId", str)
"""Drive's own ID of a file or folder."""

RevisionId = NewType("RevisionId", str)
"""Drive's `headRevisionId`, or a stand-in for it where Drive gives none: names one content of one file."""

SessionUri = NewType("SessionUri", str)
"""Address of a resumable upload session. A bearer secret: kept 0600, never logged."""

ROOT_INODE = Inode(1)

ROOT_ALIAS = DriveId("root")
"""Stands for My Drive's root in what Drive is asked; answers have its real ID."""


class RequestId(NamedTuple):
    """A request of the kernel's that is under way."""

    slot: int
    """Of the thread that answers it: no other request has it meanwhile."""
    number: int
    """The kernel's own; the same when it sends the request again, and never given to another of the same mount."""


FOLDER_MIME = "application/vnd.google-apps.folder"
SHORTCUT_MIME = "application/vnd.google-apps.shortcut"
GOOGLE_MIME_PREFIX = "application/vnd.google-apps."
"""Folders, shortcuts and Google documents: what has no bytes of its own."""

LINK_EXPORTS = frozenset({"desktop", "url"})
"""Extensions of files that only lead to a document's page: their bytes are made here."""


class Kind(Enum):
    """What a node is to the filesystem. The values are stored."""

    FILE = "file"
    FOLDER = "folder"
    SYMLINK = "symlink"


class Place(Enum):
    """What the layout of a mount has put there, and nobody may move or remove. The values are stored."""

    TOP = "top"
    """The mount's root, where that is no folder of Drive's."""
    MY_DRIVE = "my-drive"
    ALIAS = "alias"
    """A symlink to another place."""
    SHARED_DRIVES = "shared-drives"
    SHARED_DRIVE = "shared-drive"
    SHARED_WITH_ME = "shared-with-me"
    TRASH = "trash"
    """Drive's trash, to look into: it is in no listing of the mount's root, and shows to who names it."""


class Trash(Enum):
    """What is to become of an item in Drive's trash. The values are stored."""

    PUT = "put"
    """It lies there, or is to, with all that is below it."""
    PURGE = "purge"
    """It was removed from there: it is deleted for good."""


class Priority(IntEnum):
    """Who goes first where calls compete; a smaller number goes first (design: Small files)."""

    READER = 0
    PUBLISH = 1
    CHANGES = 2
    AHEAD = 3
    MIRROR = 4
    WARM = 5
    SPECULATION = 6


# --- what Drive says ---


@dataclass(frozen=True, slots=True)
class RemoteFile:
    """One item of Drive, as drivefs asks for it. Everything in it may be hostile."""

    id: DriveId
    name: str
    mime_type: str
    parent: DriveId | None
    """None for the root itself, and for items whose parent the account cannot see."""
    trashed: bool
    version: int
    modified_ns: int
    """`modifiedTime`; Drive keeps milliseconds."""
    created_ns: int
    size_bytes: int | None
    """None for folders, shortcuts and Google documents."""
    md5: str | None
    """Hexadecimal; None where there are no bytes."""
    revision: RevisionId | None
    app_properties: Mapping[str, str] = field(default_factory=dict)
    shortcut_target: DriveId | None = None
    web_view_link: str | None = None
    can_edit: bool = True
    """Whether the account may change it: its bytes, where it has any."""
    can_trash: bool = True
    can_copy: bool = True
    owned_by_me: bool = True
    description: str = ""
    starred: bool = False
    """By this account; others have their own stars."""
    put_into_trash: bool = False
    """`explicitlyTrashed`: it lies in the trash by itself, and not only with the folder that it is in."""
    can_delete: bool = True
    """Whether the account may delete it for good."""


@dataclass(frozen=True, slots=True)
class Revision:
    """One content that a file has, or had."""

    id: RevisionId
    modified_ns: int
    size_bytes: int
    md5: str | None
    kept: bool = False
    """Whether Drive keeps it for ever (`keepForever`), and not for 30 days only."""


@dataclass(frozen=True, slots=True)
class ListPage:
    """One page of a listing. `next_token` is None on the last one."""

    files: tuple[RemoteFile, ...]
    next_token: str | None
    incomplete: bool = False

    @property
    def entries(self) -> int:
        return len(self.files)


@dataclass(frozen=True, slots=True)
class Change:
    """One entry of the changes feed. `file` is None when the item is gone for this account."""

    id: DriveId
    file: RemoteFile | None


@dataclass(frozen=True, slots=True)
class ChangesPage:
    """One page of the changes feed: exactly one of the two tokens is set."""

    changes: tuple[Change, ...]
    next_token: str | None
    new_start_token: str | None

    @property
    def entries(self) -> int:
        return len(self.changes)


@dataclass(frozen=True, slots=True)
class SharedDrive:
    """A drive that belongs to a group; its ID is that of its top folder too."""

    id: DriveId
    name: str


@dataclass(frozen=True, slots=True)
class About:
    """Whose Drive it is, and how full. `limit_bytes` is None where storage is unlimited."""

    email: str
    limit_bytes: int | None
    usage_bytes: int


@dataclass(frozen=True, slots=True)
class Details:
    """An item with what a person asks of it, besides what the mount needs."""

    file: RemoteFile
    content_link: str | None
    """`webContentLink`: downloads the content in a browser; None where there is none."""
    sha1: str | None
    sha256: str | None


@dataclass(frozen=True, slots=True)
class DetailsPage:
    """One page of a search. `next_token` is None on the last one."""

    found: tuple[Details, ...]
    next_token: str | None
    incomplete: bool

    @property
    def entries(self) -> int:
        return len(self.found)


# --- what Drive is told ---


@dataclass(frozen=True, slots=True)
class Metadata:
    """What a create or an update sets; None leaves a field as it is."""

    name: str | None = None
    mime_type: str | None = None
    modified_ns: int | None = None
    """Sent as `modifiedTime`, cut to milliseconds."""
    app_properties: Mapping[str, str | None] | None = None
    """Merged by Drive into what is there; a None value removes the key."""
    description: str | None = None
    """"" takes it away."""
    starred: bool | None = None
    trashed: bool | None = None
    """False takes an item out of the trash."""


@dataclass(frozen=True, slots=True)
class CreateTarget:
    """A file that does not exist yet, under an ID generated before."""

    id: DriveId
    parent: DriveId
    metadata: Metadata


@dataclass(frozen=True, slots=True)
class UpdateTarget:
    """A file that exists: its content is replaced, ID, links and sharing stay."""

    id: DriveId
    metadata: Metadata
    add_parent: DriveId | None = None
    remove_parent: DriveId | None = None


UploadTarget = CreateTarget | UpdateTarget


@dataclass(frozen=True, slots=True)
class SessionState:
    """How far a resumable session has come: `file` once it is complete, and `offset` bytes stored before."""

    offset: int
    file: RemoteFile | None = None


# --- what a person sets ---


@dataclass(frozen=True, slots=True)
class TrashLimit:
    """How much of what a mount made may lie in Drive's trash, or for how long; None is no limit."""

    size_bytes: int | None = None
    age_s: float | None = None


@dataclass(slots=True)
class Changes:
    """Of the tree, otherwise than by who keeps copies of it: what those copies must forget."""

    names: dict[tuple[Inode, str], Inode | None] = field(default_factory=dict)
    """Folder and name of what came, went or was replaced; with the inode where that is gone, and not moved."""
    attributes: set[Inode] = field(default_factory=set)
    contents: set[Inode] = field(default_factory=set)

    def __bool__(self) -> bool:
        return bool(self.names or self.attributes or self.contents)
