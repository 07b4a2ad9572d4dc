"""Micro-batches and processes change nothing that is trained."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sslkernels.train import checkpoint
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


def ranks(*arguments: object) -> list[subprocess.Popen[str]]:
    """Two processes, as torchrun would start them."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "sslkernels", "train", *map(str, arguments), "--threads", "1"]
    place = {"MASTER_ADDR": "localhost", "MASTER_PORT": str(port), "WORLD_SIZE": "2"}
    return [
        subprocess.Popen(
            command,
            env={**os.environ, **place, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for rank in range(2)
    ]


@pytest.mark.slow
def test_two_processes_have_the_curve_of_one(tmp_path):
    """Contrastive, across processes; to 1e-9 in float64, where only the order of sums differs."""
    assert train(*TWO_TOWER, "--out", tmp_path / "one").exit_code == 0
    for rank, process in enumerate(ranks(*TWO_TOWER, "--out", tmp_path / "two")):
        shown, errors = process.communicate(timeout=200)
        assert process.returncode == 0, errors
        assert bool(shown) == (rank == 0), "each believes itself alone"
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


def await_steps(process: subprocess.Popen[str], out: Path, count: int = 30) -> None:
    deadline = time.monotonic() + 100
    while not (out / "metrics.csv").exists() or len(losses(out)) < count:
        assert process.poll() is None and time.monotonic() < deadline, "no steps were made"
        time.sleep(0.2)


@pytest.mark.slow
@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP])
def test_without_torchrun_the_others_give_up(tmp_path, end):
    """A stopped process keeps its connections: only patience ends the wait for it."""
    out = tmp_path / "run"
    arguments = (TWO_TOWER[0], "--epochs", 400, *TWO_TOWER[3:], "--patience", 2, "--out", out)
    processes = ranks(*arguments)
    try:
        await_steps(processes[0], out, 3)
        processes[1].send_signal(end)
        _, errors = processes[0].communicate(timeout=30)
    finally:
        for process in processes:
            process.kill()
    assert processes[0].returncode == 2, errors
    assert "another process of the run is gone" in errors and str(out / "checkpoint.pt") in errors
    assert checkpoint.read(out / "checkpoint.pt").settings["method"] == "two-tower"


@pytest.mark.slow
def test_a_dead_process_fails_the_run_which_can_be_resumed(tmp_path):
    """torchrun stops the others and says who died."""
    psutil = pytest.importorskip("psutil")
    out = tmp_path / "run"
    arguments = (TWO_TOWER[0], "--epochs", 400, *TWO_TOWER[3:], "--out", out)
    module = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    torchrun = subprocess.Popen(
        [sys.executable, *module, "-m", "sslkernels", "train", *map(str, arguments)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    try:
        await_steps(torchrun, out)
        for child in psutil.Process(torchrun.pid).children():
            if child.environ().get("RANK") == "1":
                child.kill()
        _, errors = torchrun.communicate(timeout=60)
    finally:
        torchrun.kill()
    assert torchrun.returncode != 0 and "SIGKILL" in errors
    assert checkpoint.read(out / "checkpoint.pt").step > 0
