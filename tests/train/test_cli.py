from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from sslkernels.train.cli import app
from sslkernels.train.logging import COLUMNS, read_csv


def simclr(out: Path, *arguments: str):
    return CliRunner().invoke(app, ["simclr", "--out", str(out), *arguments])


def test_a_run_shows_its_result_and_leaves_its_files(tmp_path):
    result = simclr(tmp_path, "--epochs", "2", "--batch-size", "512")
    assert result.exit_code == 0, result.output
    for text in ("kNN (k = 20, cosine)", "linear probe", "untrained", "trained", "checkpoint.pt"):
        assert text in result.output
    rows = read_csv(tmp_path / "metrics.csv")
    assert list(rows[0]) == COLUMNS
    assert [row["step"] for row in rows] == ["1", "2", "3", "4"]
    assert (tmp_path / "checkpoint.pt").exists()
    assert list((tmp_path / "tensorboard").iterdir())

    # All epochs are done: nothing to train, the same result.
    again = simclr(tmp_path, "--epochs", "2", "--batch-size", "512", "--resume")
    assert again.exit_code == 0, again.output
    assert again.output.splitlines()[-8:] == result.output.splitlines()[-8:]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "mnist"], "unknown data 'mnist': known are digits"),
        (["--images", "0"], "images is 0, must be in 1..1437"),
        (["--batch-size", "1"], "batch size is 1, must be at least 2"),
        (["--batch-size", "5000"], "batch size is 5000, but there are 1437 training images"),
        (["--epochs", "0"], "epochs is 0, must be at least 1"),
        (["--lr", "-1"], "learning rate is -1.0, must be positive and finite"),
        (["--lr", "nan"], "learning rate is nan, must be positive and finite"),
        (["--temperature", "0"], "temperature is 0.0, must be positive and finite"),
        (["--temperature", "1e-40"], "temperature is 1e-40, must lie in [1.18e-38, 8.51e+37]"),
        (["--seed", "-1"], "seed is -1, must be in 0..2**63 - 1"),
        (["--threads", "0"], "threads is 0, must be at least 1"),
        (["--resume"], "nothing to resume: there is no "),
    ],
)
def test_what_cannot_run_says_so_in_one_line(tmp_path, arguments, message):
    out = tmp_path / "run"
    result = simclr(out, *arguments)
    assert result.exit_code == 2
    assert result.output.startswith(f"error: {message}")
    assert result.output.count("\n") == 1
    assert not out.exists()


@pytest.mark.parametrize(
    ("module", "package"),
    [("sklearn.datasets", "scikit-learn"), ("torch.utils.tensorboard", "tensorboard")],
)
def test_a_missing_extra_is_named(tmp_path, monkeypatch, module, package):
    monkeypatch.setitem(sys.modules, module, None)
    out = tmp_path / "run"
    result = simclr(out)
    assert result.exit_code == 2
    assert result.output == f"error: training needs {package}: pip install 'sslkernels[train]'\n"
    assert not out.exists()


def test_out_that_is_a_file(tmp_path):
    path = tmp_path / "file"
    path.write_text("")
    result = simclr(path)
    assert result.exit_code == 2
    assert f"error: cannot write to {path}: File exists" in result.output


def test_a_diverging_run_stops_and_keeps_the_last_good_checkpoint(tmp_path):
    result = simclr(tmp_path, "--lr", "1e30", "--batch-size", "512")
    assert result.exit_code == 1
    assert "error: step 2 (epoch 1): loss" in result.output
    assert str(tmp_path / "checkpoint.pt") in result.output
    state = torch.load(tmp_path / "checkpoint.pt", weights_only=True)
    assert state["step"] == 0
    assert all(value.isfinite().all() for value in state["model"].values())


def test_resume_with_other_settings_is_refused(tmp_path):
    simclr(tmp_path, "--epochs", "1", "--batch-size", "512")
    result = simclr(tmp_path, "--epochs", "1", "--batch-size", "256", "--resume")
    assert result.exit_code == 2
    assert "is of a run with batch_size 512, not 256" in result.output


def test_resume_with_other_views_or_images_is_refused(tmp_path):
    short = ("--epochs", "1", "--images", "64", "--batch-size", "64")
    simclr(tmp_path, *short)
    result = simclr(tmp_path, *short, "--resume", "--augment", "torchvision")
    assert result.exit_code == 2
    assert "is of a run with augment 'sslkernels', not 'torchvision'" in result.output
    result = simclr(tmp_path, *short, "--resume", "--images", "65")
    assert result.exit_code == 2
    assert "is of a run with images '" in result.output
