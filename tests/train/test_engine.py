"""Micro-batches and processes change nothing that is trained."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.train.commands import losses, train

TWO_TOWER = ("two-tower", "--epochs", 1, "--batch-size", 2048, "--precision", "float64")


def test_micro_batches_of_a_contrastive_loss_are_the_whole_batch(tmp_path):
    for parts in (1, 4):
        result = train(*TWO_TOWER, "--accumulate", parts, "--out", tmp_path / str(parts))
        assert result.exit_code == 0, result.output
    one, four = losses(tmp_path / "1"), losses(tmp_path / "4")
    assert len(one) > 10
    torch.testing.assert_close(one, four, rtol=1e-10, atol=0)


def test_micro_batches_of_a_mean_are_the_whole_batch(text_run, tmp_path):
    for parts in (1, 2):
        arguments = ("--accumulate", str(parts), "--precision", "float64", "--epochs", "1")
        assert text_run("gpt", tmp_path / str(parts), *arguments).exit_code == 0
    one, two = losses(tmp_path / "1"), losses(tmp_path / "2")
    torch.testing.assert_close(one, two, rtol=1e-10, atol=0)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--accumulate", 3), "batch size is 2048, must be a multiple of the 1 processes times 3"),
        (("--accumulate", 0), "accumulate is 0, must be at least 1"),
        (("--warmup", 2), "warmup is 2.0, must be in 0..1"),
        (("--weight-decay", -1), "weight decay is -1.0, must be finite and not negative"),
        (("--watch-every", 0), "watch every is 0, must be at least 1"),
        (("--data", "nothing"), "unknown data 'nothing': known are digits, and CSV files"),
    ],
)
def test_what_cannot_run_says_so(tmp_path, arguments, message):
    result = train(*TWO_TOWER, *arguments, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert f"error: {message}" in result.output
    assert not (tmp_path / "run").exists()


def torchrun(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    words = [*command, "--nproc-per-node", "2", "-m", "sslkernels", "train", *arguments]
    return subprocess.run(
        [str(x) for x in words],
        capture_output=True,
        text=True,
        timeout=200,
        cwd=Path(__file__).parents[2],
        check=False,
    )


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(tmp_path):
    """Contrastive, across processes; to 1e-9 in float64, where only the order of sums differs."""
    assert train(*TWO_TOWER, "--out", tmp_path / "one").exit_code == 0
    result = torchrun(*TWO_TOWER, "--threads", 1, "--out", tmp_path / "two")
    assert result.returncode == 0, result.stderr
    torch.testing.assert_close(
        losses(tmp_path / "one"), losses(tmp_path / "two"), rtol=1e-9, atol=0
    )
    one, two = (torch.load(tmp_path / x / "checkpoint.pt")["model"] for x in ("one", "two"))
    for name, value in one.items():
        torch.testing.assert_close(value, two[name], rtol=1e-6, atol=1e-9)


@pytest.mark.slow
def test_compile_and_channels_last_train(tmp_path):
    arguments = ("simclr", "--epochs", 1, "--images", 256, "--batch-size", 64)
    for name, flags in (("plain", ()), ("fast", ("--compile", "--channels-last"))):
        result = train(*arguments, *flags, "--out", tmp_path / name)
        assert result.exit_code == 0, result.output
    torch.testing.assert_close(
        losses(tmp_path / "plain"), losses(tmp_path / "fast"), rtol=1e-2, atol=0
    )
