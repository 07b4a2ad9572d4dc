"""A run from end to end: evaluate, train, evaluate again and show both."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Generic

import torch
from rich.console import Console
from rich.table import Table

from sslkernels.train.data import Batch, Examples
from sslkernels.train.errors import TrainError
from sslkernels.train.logging import CSV
from sslkernels.train.loop import CHECKPOINT, Settings, fit
from sslkernels.train.methods import Method


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """A method, what it learns from, and how to tell what it has learnt.

    evaluate: what is measured, by name, as it is shown; identity: settings that only the data can
    tell, to resume they must be the same; files: see `loop.fit`; notes: lines to show first.
    """

    method: Method[Batch]
    data: Examples[Batch]
    evaluate: Callable[[], dict[str, str]]
    title: str
    identity: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()


def pretrain(
    settings: Settings,
    build: Callable[[], Task[Batch]],
    *,
    out: Path,
    resume: bool,
    threads: int | None,
) -> None:
    """Train what `build` makes; torch's generator is seeded for its weights."""
    console = Console()
    if threads is not None:
        if threads < 1:
            raise TrainError(f"threads is {threads}, must be at least 1")
        torch.set_num_threads(threads)
    torch.manual_seed(settings.seed)
    task = build()
    for note in task.notes:
        console.print(note, highlight=False, soft_wrap=True)
    task.method.to("cuda" if torch.cuda.is_available() else "cpu")
    settings = replace(settings, options={**settings.options, **task.identity})
    before = task.evaluate()
    fit(
        task.method,
        task.data,
        settings,
        out=out,
        console=console,
        resume=resume,
        files=task.files,
    )
    console.print(comparison(task.title, before, task.evaluate()))
    for line in (
        f"checkpoint  {out / CHECKPOINT}",
        f"curve       {out / CSV}",
        f"see it      tensorboard --logdir {out}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def comparison(title: str, before: dict[str, str], after: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for column in ("untrained", "trained"):
        table.add_column(column, justify="right")
    for name in before:
        table.add_row(name, before[name], after[name])
    return table
