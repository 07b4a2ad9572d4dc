"""One way to run the trainer in a test: short, quiet, with its curve as the result."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console

pytest.importorskip("sklearn", reason="the train extra is not installed")
pytest.importorskip("tensorboard", reason="the train extra is not installed")

from sslkernels.train.data import Rows, digits
from sslkernels.train.logging import read_csv
from sslkernels.train.loop import Settings, fit
from sslkernels.train.methods.simclr import SimCLR


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    """Networks as small as these gain little from a second one, and lose much on a busy machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def images() -> torch.Tensor:
    return digits().train


@pytest.fixture
def settings() -> Callable[..., Settings]:
    def make(**changes: Any) -> Settings:
        values = {"method": "simclr", "data": "digits", "epochs": 3, "batch_size": 64}
        return Settings(**{**values, "lr": 2e-3, "seed": 0, **changes})

    return make


@pytest.fixture
def train(images: torch.Tensor) -> Callable[..., tuple[SimCLR, list[dict[str, str]]]]:
    """Train SimCLR with these settings into `out`: the method and the rows of metrics.csv.

    Without all of the images, an epoch of batches of 64 has 11 steps.
    """

    def run(settings: Settings, out: Path, resume: bool = False, count: int = 11 * 64):
        torch.manual_seed(settings.seed)
        method = SimCLR(1, **settings.options)
        fit(
            method,
            Rows(images[:count]),
            settings,
            out=out,
            console=Console(file=io.StringIO()),
            resume=resume,
        )
        return method, read_csv(out / "metrics.csv")

    return run
