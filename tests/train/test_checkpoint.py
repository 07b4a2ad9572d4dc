from __future__ import annotations

from pathlib import Path
from typing import BinaryIO

import pytest
import torch

from sslkernels.train import checkpoint
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.errors import TrainError

SETTINGS = {"method": "simclr", "lr": 0.1}


def state(step: int = 5, size: int = 1000) -> Checkpoint:
    weights = {"w": torch.arange(float(size))}
    return Checkpoint(SETTINGS, step, weights, {}, {}, [torch.get_rng_state()])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "checkpoint.pt"
    checkpoint.save(path, state())
    return path


def test_what_is_saved_is_loaded_and_nothing_else_is_left(path: Path):
    loaded = checkpoint.load(path, SETTINGS)
    assert (loaded.step, loaded.settings) == (5, SETTINGS)
    assert torch.equal(loaded.model["w"], torch.arange(1000.0))
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("part", [0.0, 0.1, 0.5, 0.99])
def test_torn_file(path: Path, part: float):
    path.write_bytes(path.read_bytes()[: int(part * path.stat().st_size)])
    with pytest.raises(TrainError, match="is torn, or is no checkpoint"):
        checkpoint.load(path, SETTINGS)


@pytest.mark.parametrize("content", [torch.zeros(3), {"model": {}}])
def test_foreign_file(path: Path, content: object):
    torch.save(content, path)
    with pytest.raises(TrainError, match="is not a checkpoint of a training run"):
        checkpoint.load(path, SETTINGS)


def test_no_file(tmp_path: Path):
    with pytest.raises(TrainError, match="nothing to resume"):
        checkpoint.load(tmp_path / "checkpoint.pt", SETTINGS)


def test_other_version(path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(checkpoint, "VERSION", checkpoint.VERSION + 1)
    with pytest.raises(TrainError, match="is of version 2, this program reads version 3"):
        checkpoint.load(path, SETTINGS)


def test_other_method_or_setting(path: Path):
    with pytest.raises(
        TrainError, match=r"run with method 'simclr', not 'moco'; lr 0\.1, not 0\.2"
    ):
        checkpoint.load(path, {"method": "moco", "lr": 0.2})


def test_on_a_full_disk_the_old_file_stays_and_the_reason_is_told(path: Path, full_disk: None):
    with pytest.raises(TrainError, match=rf"cannot write {path} .* stays whole\): .*too large"):
        checkpoint.save(path, state(step=10, size=100_000))
    assert checkpoint.load(path, SETTINGS).step == 5
    assert list(path.parent.iterdir()) == [path]


def test_a_failure_of_torch_s_own_keeps_the_old_file(path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(content: object, file: BinaryIO):
        file.write(b"half")
        raise RuntimeError("no such tensor\nand more")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(TrainError, match=r"stays whole\): no such tensor$"):
        checkpoint.save(path, state(step=10))
    assert checkpoint.load(path, SETTINGS).step == 5
    assert list(path.parent.iterdir()) == [path]
