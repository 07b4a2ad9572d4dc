"""Processes of a gloo group on this machine, for tests."""

from __future__ import annotations

import fcntl
import os
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp

import sslkernels

LIMIT = timedelta(seconds=100)
"""No collective waits longer: a hang is a failed test."""


def spawn(worker: Callable[..., Any], world: int, folder: Path, *args: Any) -> list[Any]:
    """What `worker(rank, *args)` returns on each rank of `world` processes."""
    # The library must exist before the processes would all build it at once.
    sslkernels.backends.why_not("nt_xent", "cpu", torch.empty(0))
    mp.spawn(_child, (worker, world, str(folder), args), nprocs=world)
    return _results(folder, world)


def spawn_once(
    worker: Callable[..., Any], world: int, factory: pytest.TempPathFactory
) -> list[Any]:
    """As `spawn`, for a fixture of a module: the processes of pytest-xdist share one run of it."""
    base, session = factory.getbasetemp(), os.environ.get("PYTEST_XDIST_TESTRUNUID")
    shared = base.parent if session else base
    folder = shared / f"{worker.__module__}-{world}-{session}"
    with shared.joinpath(f"{folder.name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        if not folder.is_dir():  # else it is whole
            aside = Path(tempfile.mkdtemp(dir=shared))
            spawn(worker, world, aside)
            aside.rename(folder)
    return _results(folder, world)


def _results(folder: Path, world: int) -> list[Any]:
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world)]


def _child(
    rank: int, worker: Callable[..., Any], world: int, folder: str, args: tuple[Any, ...]
) -> None:
    torch.set_num_threads(1)
    store = f"file://{folder}/store"
    dist.init_process_group("gloo", store, LIMIT, world, rank)
    try:
        torch.save(worker(rank, *args), f"{folder}/{rank}.pt")
    finally:
        if dist.is_initialized():
            dist.destroy_process_group()


def outcome(call: Callable[[], Any]) -> tuple[str, str]:
    """The name and the message of what `call` raises, or what it returns."""
    try:
        return "returned", str(call())
    except Exception as error:
        return type(error).__name__, str(error)
