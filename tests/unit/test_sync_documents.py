"""Google documents: files that are exported when they are opened or looked at, and never written."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from drivefs.errors import Refused, Unreachable
from drivefs.model import GOOGLE_MIME_PREFIX, DriveId
from drivefs.sync.documents import LOOKS
from drivefs.sync.exports import export_of, link_file, parse_formats
from drivefs.sync.mirror import Mirror
from drivefs.vfs.vfs import Vfs
from tests.fake_drive import FakeDrive
from tests.filesystem import VfsFilesystem, read_file, write_file
from tests.house import House
from tests.promises import fails_with

DOCUMENT = GOOGLE_MIME_PREFIX + "document"
DOCX = b"Report as application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def put(drive: FakeDrive, name: str, kind: str = DOCUMENT, **values: object) -> DriveId:
    return drive.put(name, None, mime_type=kind, web_view_link="https://docs/x", revision="md5:1", **values)


@pytest.fixture
def drive() -> FakeDrive:
    drive = FakeDrive()
    put(drive, "Report")
    return drive


@pytest.fixture
def house(tmp_path: Path, drive: FakeDrive) -> House:
    return House(tmp_path / "cache", drive)


@pytest.fixture
def fs(house: House) -> VfsFilesystem:
    return VfsFilesystem(Vfs(house.store, house.mirror, house.downloader, uid=1000, gid=1000))


def test_document_reads_as_its_export_and_is_exported_once(fs: VfsFilesystem, drive: FakeDrive) -> None:
    assert read_file(fs, "Report.docx") == DOCX
    assert read_file(fs, "Report.docx") == DOCX
    assert drive.calls.count("export") == 1


def test_document_has_its_true_size_when_one_is_looked_at(fs: VfsFilesystem) -> None:
    assert fs.status("Report.docx").size_bytes == len(DOCX)
    assert fs.status("Report.docx").mode == 0o444
    assert fs.xattr("Report.docx", "user.drivefs.link") == b"https://docs/x"


def test_document_listing_of_a_thousand_exports_only_a_few(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    folder = drive.put("many")
    for number in range(1_000):
        put(drive, f"{number}", parent=folder)
    house.mirror.poll()
    names = fs.names("many")
    assert "export" not in drive.calls
    for name in names:
        fs.status(f"many/{name}")
    assert len(names) == 1_000
    assert drive.calls.count("export") == LOOKS
    # Whoever opens one sees all of it, and its size.
    fd = fs.open(f"many/{names[-1]}", os.O_RDONLY)
    size_bytes = fs.status(f"many/{names[-1]}").size_bytes
    assert size_bytes == len(fs.pread(fd, 1 << 20, 0)) > 0
    fs.close(fd)


def test_document_that_changed_is_exported_anew(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    report = drive.names()["Report"]
    read_file(fs, "Report.docx")
    drive.exports[report] = b"newer and longer" * 10
    drive.change(report, revision="md5:2")
    house.mirror.poll()
    assert fs.status("Report.docx").size_bytes == 160
    assert read_file(fs, "Report.docx") == b"newer and longer" * 10


def test_document_open_while_it_changes_stays_as_it_was(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    report = drive.names()["Report"]
    fd = fs.open("Report.docx", os.O_RDONLY)
    drive.exports[report] = b"newer"
    drive.change(report, revision="md5:2")
    house.mirror.poll()
    assert fs.pread(fd, 1 << 20, 0) == DOCX
    fs.close(fd)
    assert read_file(fs, "Report.docx") == b"newer"


def test_document_evicted_is_exported_again(house: House, fs: VfsFilesystem, drive: FakeDrive) -> None:
    read_file(fs, "Report.docx")
    assert house.store.evict(1) == len(DOCX)
    assert not house.node("Report.docx").measured
    assert read_file(fs, "Report.docx") == DOCX
    assert drive.calls.count("export") == 2


def test_document_cannot_be_written_nor_replaced(fs: VfsFilesystem, house: House, drive: FakeDrive) -> None:
    write_file(fs, "new", b"x")
    for call in (
        lambda: fs.open("Report.docx", os.O_WRONLY),
        lambda: fs.open("Report.docx", os.O_RDWR),
        lambda: fs.open("Report.docx", os.O_RDONLY | os.O_TRUNC),
        lambda: fs.truncate("Report.docx", 0),
        lambda: fs.rename("new", "Report.docx"),
    ):
        with fails_with(errno.EACCES):
            call()
    house.drain()
    assert set(drive.names()) == {"Report", "new"}
    assert drive.files[drive.names()["Report"]].mime_type == DOCUMENT


def test_document_is_renamed_moved_and_trashed_under_its_own_title(
    fs: VfsFilesystem, house: House, drive: FakeDrive
) -> None:
    report = drive.names()["Report"]
    fs.mkdir("d")
    fs.rename("Report.docx", "d/Plan.docx")
    house.drain()
    assert (drive.files[report].name, drive.files[report].parent) == ("Plan", drive.names()["d"])
    house.mirror.poll()
    assert fs.names("d") == ["Plan.docx"]
    fs.unlink("d/Plan.docx")
    house.drain()
    assert drive.files[report].trashed


def test_document_gone_from_drive_is_not_made_anew_as_an_empty_file(
    fs: VfsFilesystem, house: House, drive: FakeDrive
) -> None:
    fs.rename("Report.docx", "Plan.docx")
    del drive.files[drive.names()["Report"]]
    house.drain()
    assert drive.names() == {}
    assert fs.names("") == []


def test_document_beside_a_file_of_the_name_of_its_export_keeps_its_own(tmp_path: Path, drive: FakeDrive) -> None:
    drive.put("Report.docx", b"bytes", created_ns=10**18 + 1)
    house = House(tmp_path / "cache", drive)
    other = f"Report~{drive.names()['Report.docx']}.docx"
    assert house.node("Report.docx").export == "docx"
    assert house.node(other).export is None


def test_document_too_large_to_export_says_so(fs: VfsFilesystem, house: House, drive: FakeDrive) -> None:
    too_large = Refused("too large", reason="exportSizeLimitExceeded", status=403)
    drive.fail("export", ("before", too_large), ("before", too_large))
    with fails_with(errno.EFBIG):
        read_file(fs, "Report.docx")
    failure = house.downloader.documents.failure(house.node("Report.docx").inode)
    assert failure is not None
    assert "10 MB" in failure
    assert "https://docs/x" in failure
    # A look does not ask again so soon, and does not fail.
    assert fs.status("Report.docx").size_bytes == 0
    assert drive.calls.count("export") == 1


def test_document_offline_can_be_looked_at(fs: VfsFilesystem, drive: FakeDrive) -> None:
    drive.fail("export", ("before", Unreachable("no network")), ("before", Unreachable("no network")))
    assert fs.status("Report.docx").size_bytes == 0
    with fails_with(errno.EIO):
        read_file(fs, "Report.docx")
    assert read_file(fs, "Report.docx") == DOCX


def test_documents_that_lead_to_their_page_need_no_export(tmp_path: Path, drive: FakeDrive) -> None:
    put(drive, "Form\nExec=rm", GOOGLE_MIME_PREFIX + "form")
    house = House(tmp_path / "cache", drive)
    fs = VfsFilesystem(Vfs(house.store, house.mirror, house.downloader, uid=1000, gid=1000))
    data = read_file(fs, "Form\nExec=rm.desktop")
    assert data == b"[Desktop Entry]\nType=Link\nName=Form Exec=rm\nIcon=text-html\nURL=https://docs/x\n"
    assert fs.status("Form\nExec=rm.desktop").size_bytes == len(data)
    drive.change(drive.names()["Form\nExec=rm"], name="Form")
    house.mirror.poll()
    size_bytes = fs.status("Form.desktop").size_bytes
    assert size_bytes == len(read_file(fs, "Form.desktop"))
    assert b"Name=Form\n" in read_file(fs, "Form.desktop")
    assert "export" not in drive.calls


def test_documents_show_anew_when_other_formats_are_chosen(house: House, drive: FakeDrive) -> None:
    read = house.node("Report.docx")
    house.mirror = Mirror(house.store, drive, formats=parse_formats("url,pdf"))
    house.mirror.adopt_formats()
    house.mirror.ensure_listed(read.parent or read.inode)
    assert house.node("Report.url").export == "url"
    house.mirror = Mirror(house.store, drive, formats=parse_formats("pdf"))
    house.mirror.adopt_formats()
    house.mirror.ensure_listed(read.parent or read.inode)
    assert house.node("Report.pdf").drive_id == read.drive_id
    calls = len(drive.calls)
    house.mirror.adopt_formats()
    house.mirror.ensure_listed(read.parent or read.inode)
    assert len(drive.calls) == calls


@pytest.mark.parametrize(
    ("kind", "formats", "wanted"),
    [
        ("document", "docx,xlsx", "docx"),
        ("document", "pdf,docx", "pdf"),
        ("spreadsheet", "docx", "desktop"),
        ("spreadsheet", "docx,url", "url"),
        ("document", "url,docx", "url"),
        ("form", "docx,xlsx,pptx,svg", "desktop"),
    ],
)
def test_exports_take_the_first_format_that_fits(kind: str, formats: str, wanted: str) -> None:
    assert export_of(GOOGLE_MIME_PREFIX + kind, parse_formats(formats)) == wanted


@pytest.mark.parametrize("text", ["", ",", "doc", "docx,exe"])
def test_exports_refuse_formats_that_nobody_knows(text: str) -> None:
    with pytest.raises(ValueError, match="docx"):
        parse_formats(text)


def test_link_file_holds_nothing_that_an_address_smuggles_in() -> None:
    assert link_file("url", "x", "https://a/\nIconFile=\\\\evil") == (
        b"[InternetShortcut]\r\nURL=https://a/IconFile=\\\\evil\r\n"
    )
