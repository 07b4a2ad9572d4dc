from __future__ import annotations

import errno
from pathlib import Path

import pytest
import torch

from sslkernels.train import checkpoint
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.errors import TrainError

SETTINGS = {"method": "simclr", "lr": 0.1}


def state(step: int = 5) -> Checkpoint:
    weights = {"w": torch.arange(1000.0)}
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


@pytest.mark.parametrize(
    "failure",
    [OSError(errno.ENOSPC, "No space left on device"), RuntimeError("unexpected pos 64 vs 0")],
)
def test_a_failed_save_keeps_the_old_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, failure: Exception
):
    def full_disk(content, file):
        file.write(b"half")
        raise failure

    monkeypatch.setattr(torch, "save", full_disk)
    with pytest.raises(TrainError, match="cannot save"):
        checkpoint.save(path, state(step=10))
    assert checkpoint.load(path, SETTINGS).step == 5
    assert list(path.parent.iterdir()) == [path]
