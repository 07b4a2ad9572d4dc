"""A run from end to end: evaluate, train, evaluate again and show both."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

import torch
from rich.console import Console
from rich.table import Table

from sslkernels.train import report, trackers
from sslkernels.train.arguments import at_least, positive
from sslkernels.train.data import Batch, Examples
from sslkernels.train.engine import accelerator, await_main
from sslkernels.train.errors import TrainError
from sslkernels.train.logging import CSV
from sslkernels.train.loop import CHECKPOINT, Manner, fit
from sslkernels.train.methods import Method
from sslkernels.train.options import RunOptions
from sslkernels.train.settings import Settings

if TYPE_CHECKING:
    from sslkernels.train.registry import Entry


@dataclass(frozen=True)
class Task(Generic[Batch]):
    """A method, what it learns from, and how to tell what it has learnt.

    evaluate: what is measured, by name, as it is shown; identity: settings that only the data can
    tell, to resume they must be the same; notes: lines to show first; files, watch: see
    `loop.Manner`; show: draws what the method is shown into a PNG, if that can be drawn.
    """

    method: Method[Batch]
    data: Examples[Batch]
    evaluate: Callable[[], dict[str, str]]
    title: str
    identity: Mapping[str, Any] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    watch: Callable[[], Mapping[str, float]] | None = None
    show: Callable[[Path], None] | None = None


def pretrain(entry: Entry, options: RunOptions, own: Mapping[str, Any]) -> None:
    """Run a method with these options, the shared ones and its own.

    Raises:
        TrainError, DivergedError: as `loop.fit`, and an option out of its range.
    """
    if options.threads is not None:
        if options.threads < 1:
            raise TrainError(f"threads is {options.threads}, must be at least 1")
        torch.set_num_threads(options.threads)
    at_least("watch every", options.watch_every, 1)
    at_least("workers", options.workers, 0)
    if options.tracker is not None:
        trackers.needed(options.tracker)
    out = options.out or Path("runs") / entry.name
    options = dataclasses.replace(options, out=out)
    if options.smoke:
        options = dataclasses.replace(options, **entry.family.smoke)
    settings = make_settings(entry.name, options, own)
    place = accelerator(patience=positive("patience", options.patience))
    console = Console(quiet=not place.is_main_process)
    torch.manual_seed(settings.seed)  # of the weights
    task = entry.family.build(entry.method, options, dict(own))
    for note in task.notes:
        console.print(note, highlight=False, soft_wrap=True)
    task.method.to(place.device)
    settings = dataclasses.replace(settings, options={**settings.options, **task.identity})
    evaluate = task.evaluate if place.is_main_process else dict
    before = evaluate()
    await_main(place, "before")
    fit(
        task.method,
        task.data,
        settings,
        out=out,
        console=console,
        resume=options.resume,
        manner=Manner(
            compiled=options.compile,
            channels_last=options.channels_last,
            workers=options.workers,
            tracker=options.tracker,
            watch=task.watch,
            watch_every=options.watch_every,
            files=task.files,
            show=task.show,
        ),
    )
    after = evaluate()
    if place.is_main_process:
        try:
            report.write(out, entry.about, settings.flat(), task.title, before, after)
        except OSError as error:
            raise TrainError(f"cannot write to {out}: {error.strerror}") from error
    if after:
        console.print(comparison(task.title, before, after))
    for line in (
        f"checkpoint  {out / CHECKPOINT}",
        f"curve       {out / CSV}",
        f"summary     {out / report.SUMMARY}",
        f"see it      tensorboard --logdir {out}",
    ):
        console.print(line, highlight=False, soft_wrap=True)
    place.end_training()


def make_settings(name: str, options: RunOptions, own: Mapping[str, Any]) -> Settings:
    """Of all options, those that decide the curve."""
    shared = {
        field.name: plain(getattr(options, field.name))
        for field in dataclasses.fields(Settings)
        if field.name not in ("method", "options")
    }
    return Settings(
        method=name, options={key: plain(value) for key, value in own.items()}, **shared
    )


def plain(value: Any) -> Any:
    """As a checkpoint may hold it: text instead of members of an enumeration, and paths."""
    if isinstance(value, Enum):
        return value.value
    return str(value) if isinstance(value, Path) else value


def comparison(title: str, before: dict[str, str], after: dict[str, str]) -> Table:
    table = Table(title=title, title_justify="left")
    table.add_column("measure")
    for column in ("untrained", "trained"):
        table.add_column(column, justify="right")
    for name in before:
        table.add_row(name, before[name], after[name])
    return table
