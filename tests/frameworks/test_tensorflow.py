"""Checkpoints of TensorFlow and Keras come back from Drive as they were saved, and training goes on from them."""

from __future__ import annotations

import pytest

from tests.frameworks.life import Life, live_through


@pytest.fixture(scope="module")
def life(tmp_path_factory: pytest.TempPathFactory) -> Life:
    return live_through("with_tensorflow.py", ["tensorflow", "tf_keras"], tmp_path_factory)


def _saver_names(*steps: int) -> list[str]:
    suffixes = ("data-00000-of-00001", "index", "meta")
    return ["checkpoint", *(f"model.ckpt-{step}.{suffix}" for step in steps for suffix in suffixes)]


def test_saver_comes_back_and_keeps_the_newest(life: Life) -> None:
    saved, restored = life.part("saver")
    life.assert_on_drive("saver")
    assert restored == saved
    assert saved["step"] == 4
    assert life.names("saver") == _saver_names(3, 4)
    assert life.names("saver", resumed=True) == _saver_names(4, 5)


def test_saver_updates_one_checkpoint_file(life: Life) -> None:
    life.part("saver")
    assert life.resumed_items["saver/checkpoint"]["id"] == life.items["saver/checkpoint"]["id"]


def test_checkpoint_manager_comes_back_and_keeps_the_newest(life: Life) -> None:
    saved, restored = life.part("manager")
    life.assert_on_drive("manager")
    assert restored == saved
    assert saved["step"] == 4

    def names(*steps: int) -> list[str]:
        return ["checkpoint", *(f"ckpt-{step}.{part}" for step in steps for part in ("data-00000-of-00001", "index"))]

    assert life.names("manager") == names(3, 4)
    assert life.names("manager", resumed=True) == names(4, 5)
    assert life.resumed_items["manager/checkpoint"]["id"] == life.items["manager/checkpoint"]["id"]


def test_keras_model_checkpoint_comes_back_and_training_is_resumed(life: Life) -> None:
    saved, restored = life.part("keras")
    life.assert_on_drive("keras")
    assert restored["digest"] == restored["by_weights"] == saved["digest"]

    def names(epochs: int) -> list[str]:
        numbers = [f"{number:02}" for number in range(1, epochs + 1)]
        return [
            "best.keras",
            *(f"epoch-{number}.weights.h5" for number in numbers),
            *(f"model-{number}.keras" for number in numbers),
        ]

    assert life.names("keras") == names(2)
    assert life.names("keras", resumed=True) == names(4)


def test_classic_keras_hdf5_comes_back_and_training_is_resumed(life: Life) -> None:
    saved, restored = life.part("classic")
    life.assert_on_drive("classic")
    assert restored["digest"] == saved["digest"]
    epochs = [name.split("-")[1] for name in life.names("classic", resumed=True)]
    assert epochs == ["01", "02", "03", "04"]
    assert all(name.endswith(".hdf5") for name in life.names("classic", resumed=True))
