"""Google documents as files: under which extension each kind shows, and what Drive is asked for. Pure.

Google's own documents have no bytes. What shows in their place is an export (docx, pdf, …) or a link to their page
(desktop, url), by the first of the formats chosen that their kind knows.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from drivefs.model import FOLDER_MIME, GOOGLE_MIME_PREFIX, LINK_EXPORTS, SHORTCUT_MIME

_OFFICE = "application/vnd.openxmlformats-officedocument."
_OPEN = "application/vnd.oasis.opendocument."

EXPORTS: Mapping[str, tuple[str, frozenset[str]]] = {
    "docx": (_OFFICE + "wordprocessingml.document", frozenset({"document"})),
    "odt": (_OPEN + "text", frozenset({"document"})),
    "rtf": ("application/rtf", frozenset({"document"})),
    "epub": ("application/epub+zip", frozenset({"document"})),
    "md": ("text/markdown", frozenset({"document"})),
    "txt": ("text/plain", frozenset({"document", "presentation"})),
    "pdf": ("application/pdf", frozenset({"document", "spreadsheet", "presentation", "drawing"})),
    "xlsx": (_OFFICE + "spreadsheetml.sheet", frozenset({"spreadsheet"})),
    "ods": ("application/x-vnd.oasis.opendocument.spreadsheet", frozenset({"spreadsheet"})),
    "csv": ("text/csv", frozenset({"spreadsheet"})),
    "tsv": ("text/tab-separated-values", frozenset({"spreadsheet"})),
    "pptx": (_OFFICE + "presentationml.presentation", frozenset({"presentation"})),
    "odp": (_OPEN + "presentation", frozenset({"presentation"})),
    "svg": ("image/svg+xml", frozenset({"drawing"})),
    "png": ("image/png", frozenset({"drawing"})),
    "jpg": ("image/jpeg", frozenset({"drawing"})),
    "json": ("application/vnd.google-apps.script+json", frozenset({"script"})),
}
"""By extension: the type that files.export is asked for, and the kinds of documents that have it."""

FORMATS = ("docx", "xlsx", "pptx", "svg")
"""What is chosen where nothing else is."""

_LINK = "desktop"
"""For kinds that no format chosen fits."""


def parse_formats(text: str) -> tuple[str, ...]:
    """`docx,xlsx,url`: the formats in the order of preference. Raises ValueError."""
    formats = tuple(part.strip().lower().removeprefix(".") for part in text.split(",") if part.strip())
    if not formats or any(each not in EXPORTS and each not in LINK_EXPORTS for each in formats):
        known = ", ".join([*EXPORTS, *sorted(LINK_EXPORTS)])
        raise ValueError(f"some of {known}, separated by commas")
    return formats


def is_document(mime_type: str) -> bool:
    """Whether an item has no bytes of its own, and is neither a folder nor a shortcut."""
    return mime_type.startswith(GOOGLE_MIME_PREFIX) and mime_type not in (FOLDER_MIME, SHORTCUT_MIME)


def export_of(mime_type: str, formats: Sequence[str]) -> str:
    """The extension under which a document shows."""
    kind = mime_type.removeprefix(GOOGLE_MIME_PREFIX)
    for each in formats:
        if each in LINK_EXPORTS or kind in EXPORTS[each][1]:
            return each
    return _LINK


def with_extension(name: str, export: str | None) -> str:
    """What a name of Drive is in the mount, before it is made one that files can have."""
    return name if export is None else f"{name}.{export}"


def link_file(export: str, name: str, url: str) -> bytes:
    """The content of a link to a page, as desktops open it. Both texts may be hostile."""
    address = "".join(char for char in url if char.isprintable())
    if export == "url":
        return f"[InternetShortcut]\r\nURL={address}\r\n".encode(errors="replace")
    title = "".join(char if char.isprintable() else " " for char in name).replace("\\", "\\\\")
    return f"[Desktop Entry]\nType=Link\nName={title}\nIcon=text-html\nURL={address}\n".encode(errors="replace")
