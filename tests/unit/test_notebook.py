"""mount(), flush(), status() and unmount() as a notebook calls them: what is shown, what is asked of Colab."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest

from drivefs import notebook
from drivefs.config import Settings
from drivefs.errors import SignInNeeded
from drivefs.notebook import Bar, Status
from drivefs.signin.accounts import Accounts
from drivefs.signin.find import find_sign_in

PROGRESS = {"bytes": 4096, "bytes_left": 1024, "files": 4, "files_left": 1, "pause": None, "current": "a<b>.ckpt"}


class Display:
    """Stands in for IPython.display."""

    def __init__(self) -> None:
        self.outputs: list[list[str]] = []

    def HTML(self, markup: str) -> str:
        return markup

    def display(self, shown: str, *, display_id: bool) -> Handle:
        assert display_id
        self.outputs.append([shown])
        return Handle(self.outputs[-1])


class Handle:
    def __init__(self, output: list[str]) -> None:
        self._output = output

    def update(self, shown: str) -> None:
        self._output.append(shown)


def state(**changes: Any) -> dict[str, Any]:
    queue = {"files": 2, "bytes": 2048, "writing_files": 0, "oldest_s": 30.0, "parked": 0}
    upload = {"path": "models/<x>.pt", "bytes": 1000, "done_bytes": 250, "rate_bytes_s": 100}
    return {
        "mountpoint": "/content/drive",
        "running": True,
        "queue": queue,
        "pause": None,
        "offline": None,
        "uploads": [upload],
        "parked": [],
        **changes,
    }


def test_bar_is_one_output_that_is_updated() -> None:
    display = Display()
    with Bar(display) as bar:
        bar.update(PROGRESS)
        bar.update({**PROGRESS, "bytes_left": 512})
    (output,) = display.outputs
    assert 'value="3072" max="4096"' in output[0] and "3 of 4 files" in output[0]
    assert "a&lt;b&gt;.ckpt" in output[0]
    assert 'value="4096" max="4096"' in output[-1] and "4 of 4 files" in output[-1]


def test_bar_does_not_say_done_when_it_failed() -> None:
    display = Display()
    with pytest.raises(SignInNeeded), Bar(display) as bar:
        bar.update(PROGRESS)
        raise SignInNeeded("Not signed in.")
    assert "3 of 4 files" in display.outputs[0][-1]


def test_bar_shows_nothing_when_nothing_waited() -> None:
    display = Display()
    with Bar(display):
        pass
    assert display.outputs == []


def test_status_is_a_table_in_a_notebook_and_text_elsewhere() -> None:
    shown = Status([state()])
    assert repr(shown) == "/content/drive: mounted; 2 files (2.0 KiB) waiting; the oldest for 30 s"
    markup = shown._repr_html_()
    assert markup.startswith("<table>") and 'value="250" max="1000"' in markup
    assert "models/&lt;x&gt;.pt" in markup and "<x>" not in markup
    paused = Status([state(pause={"reason": "Drive is full.", "until": 0.0})])
    assert "paused: Drive is full." in repr(paused)
    assert repr(Status([])) == notebook.NOTHING and notebook.NOTHING in Status([])._repr_html_()


def test_mount_asks_colab_to_sign_in_when_nobody_has(monkeypatch: pytest.MonkeyPatch) -> None:
    known = False

    def authenticate_user() -> None:
        nonlocal known
        known = True

    def signed_in(settings: Settings) -> None:
        if not known:
            raise SignInNeeded("Not signed in.")

    auth = types.ModuleType("google.colab.auth")
    auth.authenticate_user = authenticate_user  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "google.colab", types.ModuleType("google.colab"))
    monkeypatch.setitem(sys.modules, "google.colab.auth", auth)
    monkeypatch.setattr(notebook, "signed_in", signed_in)
    monkeypatch.setattr(notebook, "_is_colab", lambda: False)
    with pytest.raises(SignInNeeded):
        notebook._sign_in(Settings(Path("/content/drive")))
    assert not known
    monkeypatch.setattr(notebook, "_is_colab", lambda: True)
    notebook._sign_in(Settings(Path("/content/drive")))
    assert known


def test_command_in_colab_says_which_line_to_run_first(tmp_path: Path) -> None:
    environ = {"COLAB_RELEASE_TAG": "release-colab_2026", "CLOUDSDK_CONFIG": str(tmp_path), "NO_GCE_CHECK": "true"}
    with pytest.raises(SignInNeeded, match=r"run 'from google.colab import auth; auth.authenticate_user\(\)'"):
        find_sign_in(accounts=Accounts(tmp_path), environ=environ)
    (tmp_path / "application_default_credentials.json").write_text(
        '{"type": "authorized_user", "client_id": "i", "client_secret": "s", "refresh_token": "t"}'
    )
    assert find_sign_in(accounts=Accounts(tmp_path), environ=environ).credentials


def test_import_is_light() -> None:
    code = (
        "import sys, drivefs; print(sorted(m for m in sys.modules if m.startswith(('click', 'google', 'drivefs.'))))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
