"""Google documents through a real mount: programs read their exports whole, and cannot write them."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.emulator_support import DOCUMENT, Api
from tests.mounting import Drive, Mounted, Transport, mounted
from tests.promises import fails_with

DOCUMENTS = 20


@pytest.fixture(scope="module")
def api(drive: Drive) -> Iterator[Api]:
    api = Api(drive.running)
    folder = api.folder("documents")
    for number in range(DOCUMENTS):
        api.ok("POST", "files", {"name": f"Report {number:02}", "mimeType": DOCUMENT, "parents": [folder]})
    form = "application/vnd.google-apps.form"
    api.ok("POST", "files", {"name": "Form", "mimeType": form, "parents": [folder]})
    text = api.multipart({"name": "Long", "mimeType": DOCUMENT, "parents": [folder]}, b"w" * 11_000_000, "text/plain")
    assert text.status == 200
    yield api
    api.close()


@pytest.fixture(scope="module")
def mount(
    drive: Drive, api: Api, transport: Transport, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Mounted]:
    with mounted(drive, transport, tmp_path_factory.mktemp("mount")) as mount:
        yield mount


def exports(drive: Drive) -> int:
    return sum(1 for request in drive.admin.requests() if "/export" in str(request))


def test_documents_are_read_whole_by_programs_after_a_listing_that_does_not_export(
    mount: Mounted, drive: Drive, tmp_path: Path
) -> None:
    folder = mount.path / "documents"
    before = exports(drive)
    listed = subprocess.run(["ls", "-l", folder], check=True, capture_output=True, text=True).stdout
    assert listed.count(".docx") == DOCUMENTS + 1
    assert exports(drive) - before <= 4
    # The end is sought first, so the size that the kernel knows must be right by then.
    for number in (1, 12):
        with zipfile.ZipFile(folder / f"Report {number:02}.docx") as archive:
            assert f"Report {number:02}" in archive.read("word/document.xml").decode()
    shutil.copytree(folder, tmp_path / "copy", ignore=shutil.ignore_patterns("Long*", "Report 1*", "Report 0[3-9]*"))
    for path in (tmp_path / "copy").glob("*.docx"):
        assert zipfile.is_zipfile(path)
        assert path.stat().st_size == (folder / path.name).stat().st_size
    assert b"\nURL=https://" in (folder / "Form.desktop").read_bytes()


def test_document_refuses_writers_and_one_too_large_says_why(mount: Mounted) -> None:
    folder = mount.path / "documents"
    path = folder / "Report 01.docx"
    assert path.stat().st_mode & 0o777 == 0o444
    (folder / "new").write_bytes(b"x")
    for call in (
        lambda: os.open(path, os.O_WRONLY),
        lambda: os.truncate(path, 0),
        lambda: os.rename(folder / "new", path),
    ):
        with fails_with(errno.EACCES):
            call()
    (folder / "new").unlink()
    with fails_with(errno.EFBIG):
        (folder / "Long.docx").read_bytes()
    assert "10 MB" in mount.command("why", folder / "Long.docx").stdout
