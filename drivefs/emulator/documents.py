"""Google documents: what each kind exports to, as real small files."""

from __future__ import annotations

import html
import io
import zipfile

from drivefs.emulator.errors import ApiError

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT = "application/vnd.oasis.opendocument.text"
ODS = "application/x-vnd.oasis.opendocument.spreadsheet"
ODP = "application/vnd.oasis.opendocument.presentation"
_PREFIX = "application/vnd.google-apps."

EXPORTS: dict[str, tuple[str, ...]] = {
    _PREFIX + "document": (
        ODT,
        DOCX,
        "application/pdf",
        "text/plain",
        "text/html",
        "text/markdown",
        "application/rtf",
        "application/epub+zip",
        "application/zip",
    ),
    _PREFIX + "spreadsheet": (
        XLSX,
        ODS,
        "application/pdf",
        "text/csv",
        "text/tab-separated-values",
        "application/zip",
    ),
    _PREFIX + "presentation": (PPTX, ODP, "application/pdf", "text/plain"),
    _PREFIX + "drawing": ("image/svg+xml", "image/png", "image/jpeg", "application/pdf"),
    _PREFIX + "script": ("application/vnd.google-apps.script+json",),
}

IMPORTS: dict[str, tuple[str, ...]] = {
    "text/plain": (_PREFIX + "document",),
    "text/html": (_PREFIX + "document",),
    DOCX: (_PREFIX + "document",),
    ODT: (_PREFIX + "document",),
    "text/csv": (_PREFIX + "spreadsheet",),
    XLSX: (_PREFIX + "spreadsheet",),
    PPTX: (_PREFIX + "presentation",),
}

EXPORT_LIMIT_BYTES = 10 << 20


def export_links(mime: str, file_id: str) -> dict[str, str] | None:
    """The field `exportLinks`."""
    kinds = EXPORTS.get(mime)
    if kinds is None:
        return None
    base = f"https://docs.google.com/feeds/download/{mime.removeprefix(_PREFIX)}s/Export?id={file_id}"
    return {kind: f"{base}&exportFormat={kind.rsplit('/', 1)[-1]}" for kind in kinds}


def export(mime: str, wanted: str, title: str, text: str) -> bytes:
    """The document as a file of the type `wanted`; 400 and 403 as Google refuses."""
    kinds = EXPORTS.get(mime)
    if kinds is None:
        raise ApiError(403, "fileNotExportable", "Export only supports Docs Editors files.")
    if wanted not in kinds:
        raise ApiError(400, "badRequest", "The requested conversion is not supported.", location="convertTo")
    data = _exported(wanted, title, text)
    if len(data) > EXPORT_LIMIT_BYTES:
        raise ApiError(403, "exportSizeLimitExceeded", "This file is too large to be exported.")
    return data


def _exported(wanted: str, title: str, text: str) -> bytes:
    safe = html.escape(text)
    if wanted in (DOCX, XLSX, PPTX):
        return _office(wanted, safe)
    if wanted in (ODT, ODS, ODP):
        return _zip({"mimetype": wanted, "content.xml": f"<office:document-content>{safe}</office:document-content>"})
    if wanted in ("application/zip", "application/epub+zip"):
        return _zip({f"{title}.html": f"<html><body>{safe}</body></html>"})
    if wanted == "text/html":
        return f"<html><head><title>{html.escape(title)}</title></head><body>{safe}</body></html>".encode()
    if wanted == "image/svg+xml":
        return f'<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><text>{safe}</text></svg>'.encode()
    if wanted == "application/pdf":
        return b"%PDF-1.4\n" + text.encode() + b"\n%%EOF\n"
    if wanted == "application/rtf":
        return ("{\\rtf1 " + text + "}").encode()
    if wanted == "image/png":
        return bytes.fromhex(
            "89504e470d0a1a0a0000000d49484452000000010000000108060000001f15c4890000000d49444154789c6360000002"
            "000001e221bc330000000049454e44ae426082"
        )
    return text.encode()


def _office(wanted: str, safe: str) -> bytes:
    part = {DOCX: "word/document.xml", XLSX: "xl/workbook.xml", PPTX: "ppt/presentation.xml"}[wanted]
    head = '<?xml version="1.0" encoding="UTF-8"?>'
    override = f'<Override PartName="/{part}" ContentType="{wanted}.main+xml"/>'
    return _zip(
        {
            "[Content_Types].xml": f"{head}<Types>{override}</Types>",
            "_rels/.rels": f'{head}<Relationships><Relationship Id="rId1" Target="{part}"/></Relationships>',
            part: f"{head}<document><body><p>{safe}</p></body></document>",
        }
    )


def _zip(members: dict[str, str]) -> bytes:
    # A fixed date: the same document exports to the same bytes each time.
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(name, (1980, 1, 1, 0, 0, 0)), content)
    return buffer.getvalue()
