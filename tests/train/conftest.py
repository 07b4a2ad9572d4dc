"""Ways to run the trainer in a test: short, quiet, with its curve as the result."""

from __future__ import annotations

import io
import random
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from typer.testing import CliRunner

pytest.importorskip("sklearn", reason="the train extra is not installed")
pytest.importorskip("tensorboard", reason="the train extra is not installed")
pytest.importorskip("tokenizers", reason="the train extra is not installed")

from sslkernels.train import loop
from sslkernels.train.cli import app
from sslkernels.train.images import digits
from sslkernels.train.logging import RunLog, read_csv
from sslkernels.train.loop import fit
from sslkernels.train.methods.simclr import SimCLR
from sslkernels.train.settings import Settings
from sslkernels.train.views import Augment, Views, tiny_grey


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

    def run(
        settings: Settings,
        out: Path,
        resume: bool = False,
        count: int = 11 * 64,
        augment: Augment = Augment.sslkernels,
    ):
        torch.manual_seed(settings.seed)
        method = SimCLR((1, 8, 8), **settings.options)
        fit(
            method,
            Views(images[:count], tiny_grey((8, 8)), seed=settings.seed, augment=augment),
            settings,
            out=out,
            console=Console(file=io.StringIO()),
            resume=resume,
        )
        return method, read_csv(out / "metrics.csv")

    return run


@pytest.fixture
def stopped_at(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], AbstractContextManager[None]]:
    """A context in which a run is interrupted as soon as this step is logged."""

    @contextmanager
    def stopped(last_step: int) -> Iterator[None]:
        class Stopped(RunLog):
            def step(self, step):
                super().step(step)
                if step.step == last_step:
                    raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(loop, "RunLog", Stopped)
            yield

    return stopped


@pytest.fixture
def full_disk() -> Iterator[None]:
    """No file of this process grows beyond its first 3000 bytes."""
    resource = pytest.importorskip("resource", reason="this system has no limits")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (3000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


SUBJECTS = ("alice", "bob", "the old cat", "a small dog")
VERBS = ("sees", "likes", "finds", "paints")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """24 short files in a language with little to learn; file n speaks of colour n % 6 only."""
    source = random.Random(0)
    folder = tmp_path / "text"
    folder.mkdir()
    colours = ("red", "green", "blue", "white", "black", "brown")
    for i in range(24):
        lines = [
            f"{source.choice(SUBJECTS)} {source.choice(VERBS)} the {colours[i % 6]} house .\n"
            for _ in range(source.randint(30, 50))
        ]
        (folder / f"{i:02}.txt").write_text("".join(lines))
    return folder


SMALL = "--vocab-size 300 --length 32 --width 32 --layers 1 --batch-size 16 --epochs 2"


@pytest.fixture
def text_run(folder: Path) -> Callable[..., Any]:
    """Run `train METHOD` on the folder, small; the last of a repeated option counts."""

    def run(method: str, out: Path, *arguments: str) -> Any:
        options = [method, "--data", str(folder), "--out", str(out), *SMALL.split(), *arguments]
        return CliRunner().invoke(app, options)

    return run
