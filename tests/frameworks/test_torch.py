"""Checkpoints of PyTorch and safetensors come back from Drive as they were saved, and training goes on from them."""

from __future__ import annotations

import pytest

from tests.frameworks.life import Life, live_through


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return live_through("with_torch.py", ["torch", "safetensors"], tmp_path_factory)


def test_torch_save_comes_back_read_and_mapped(life: Life) -> None:
    saved, restored = life.part("torch")
    life.assert_on_drive("torch")
    assert restored["digest"] == restored["mapped"] == saved["digest"]
    assert restored["step"] == saved["step"]
    assert life.names("torch") == life.names("torch", resumed=True) == ["checkpoint.pt", "latest.pt"]


def test_safetensors_come_back_read_and_mapped(life: Life) -> None:
    saved, restored = life.part("safetensors")
    life.assert_on_drive("safetensors")
    assert restored["digest"] == restored["opened"] == saved["digest"]
    assert restored["step"] == saved["step"]


@pytest.mark.parametrize("path", ["torch/checkpoint.pt", "torch/latest.pt", "safetensors/model.safetensors"])
def test_checkpoint_saved_again_is_the_same_file_on_drive(life: Life, path: str) -> None:
    assert life.resumed_items[path]["id"] == life.items[path]["id"]
    assert life.resumed_items[path]["headRevisionId"] != life.items[path]["headRevisionId"]
