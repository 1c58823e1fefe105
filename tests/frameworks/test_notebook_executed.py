"""The notebook in packaging/notebooks, executed for real in a kernel of its own, with its outputs looked at."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest

from tests.mounting import Drive, drive_at

NOTEBOOK = Path(__file__).parents[2] / "packaging" / "notebooks" / "checkpoints.ipynb"
LIMIT_S = 240


@pytest.fixture
def drive(tmp_path: Path) -> Iterator[Drive]:
    with drive_at(tmp_path / "drive") as drive:
        yield drive


def outputs_of(cell: Any) -> str:
    """All that a cell has shown, as text and markup."""
    shown = ""
    for output in cell.outputs:
        assert output.output_type != "error", output
        shown += output.get("text", "")
        shown += "".join(output.get("data", {}).values())
    return shown


def test_notebook_trains_is_killed_and_resumes(drive: Drive, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = tmp_path / "home"
    home.mkdir()
    for name, value in {
        "DRIVE": str(tmp_path / "content" / "drive"),
        "DRIVEFS_ENDPOINT": drive.running.endpoint,
        "DRIVEFS_CREDENTIALS": str(drive.running.credentials_file),
        "HOME": str(home),
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}",
        "PYTHONPATH": str(NOTEBOOK.parents[2]),
        "CUDA_VISIBLE_DEVICES": "-1",
    }.items():
        monkeypatch.setenv(name, value)
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    client = nbclient.NotebookClient(notebook, timeout=LIMIT_S, kernel_name="python3", resources={})
    try:
        client.execute(cwd=str(tmp_path))
    except nbclient.exceptions.CellExecutionError:
        command = [sys.executable, "-m", "drivefs", "umount", "--no-wait", os.environ["DRIVE"]]
        subprocess.run(command, check=False, timeout=100)  # a failure has left it mounted
        raise
    shown = [outputs_of(cell) for cell in notebook.cells if cell.cell_type == "code"]
    mounted, trained, flushed, listed, lost, resumed, ended = shown

    assert "Mounted the Drive at" in mounted
    assert "killed the mount's process" in trained
    assert "'epoch-01.keras', 'epoch-02.keras', 'epoch-03.keras'" in trained
    assert re.search(r"Everything in .* is on Drive", flushed)
    assert "<table>" in flushed and "everything is on Drive" in flushed
    assert all(f"epoch-0{epoch}.keras" in listed for epoch in (1, 2, 3))
    assert "Unmounted" in lost
    assert "restored epoch-03.keras" in resumed and "resumed at epoch 4" in resumed
    assert "everything is on Drive" in ended
    names = {item["name"] for item in drive.admin.tree()}
    assert {f"epoch-0{epoch}.keras" for epoch in (1, 2, 3, 4, 5)} <= names
