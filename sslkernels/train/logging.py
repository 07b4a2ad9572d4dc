"""What a person sees of a run: progress bar, metrics.csv and TensorBoard."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from types import TracebackType
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from sslkernels.train.errors import require


@dataclass(frozen=True)
class Step:
    """One optimiser step; `step` counts from 1."""

    step: int
    epoch: int
    loss: float
    lr: float
    grad_norm: float
    examples_per_second: float


CSV = "metrics.csv"
MEASURES = "measures.csv"  # what was measured while it trained
MEASURES_COLUMNS = ["step", "epoch", "measure", "value"]
COLUMNS = [field.name for field in fields(Step)]


def read_csv(path: Path) -> list[dict[str, str]]:
    """The rows of metrics.csv; a torn last row (from a kill) is left out."""
    with path.open(newline="") as file:
        return [row for row in csv.DictReader(file) if None not in row.values()]


class Rows:
    """A CSV file of numbered steps that goes on after `done` of them."""

    def __init__(self, path: Path, columns: list[str], done: int) -> None:
        earlier = read_csv(path) if done and path.exists() else []
        # A row is a line in the file as soon as it is known.
        self._file = path.open("w", newline="", buffering=1)
        self._csv = csv.DictWriter(self._file, columns)
        self._csv.writeheader()
        self._csv.writerows(row for row in earlier if int(row["step"]) <= done)

    def write(self, row: dict[str, object]) -> None:
        self._csv.writerow(row)

    def close(self) -> None:
        self._file.close()


class RunLog:
    """Context manager. `done` steps are kept from an earlier part of the run, later ones dropped:
    a killed run may have logged steps that came after its last checkpoint.

    tracker: of `accelerate`, started; it is shown what TensorBoard is, and finished at the end.
    """

    def __init__(
        self,
        out: Path,
        *,
        console: Console,
        total: int,
        done: int,
        unit: str = "examples",
        tracker: Any = None,
    ) -> None:
        tensorboard = require("torch.utils.tensorboard", "tensorboard")
        self._progress = Progress(
            TextColumn("epoch {task.fields[epoch]}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("loss {task.fields[loss]}"),
            TextColumn(f"{{task.fields[rate]:,.0f}} {unit}/s"),
            TimeRemainingColumn(),
            TextColumn("left"),
            console=console,
        )
        self._task = self._progress.add_task(
            "train", total=total, completed=done, epoch=0, loss="-", rate=0.0
        )
        self._rate = 0.0
        self._tracker = tracker
        out.mkdir(parents=True, exist_ok=True)
        self._steps = Rows(out / CSV, COLUMNS, done)
        self._measures = Rows(out / MEASURES, MEASURES_COLUMNS, done)
        # purge_step hides what an earlier run wrote here from that step on.
        self._board = tensorboard.SummaryWriter(
            str(out / "tensorboard"), purge_step=done + 1 if done else 0
        )

    def step(self, step: Step) -> None:
        row = asdict(step)
        self._steps.write(row)
        shown = ("loss", "lr", "grad_norm", "examples_per_second")
        self._plot({f"train/{name}": row[name] for name in shown}, step.step)
        # Smoothed, or nobody could read it.
        self._rate += (0.1 if self._rate else 1.0) * (step.examples_per_second - self._rate)
        self._progress.update(
            self._task,
            completed=step.step,
            epoch=step.epoch,
            loss=f"{step.loss:.4f}",
            rate=self._rate,
        )

    def measured(self, step: int, epoch: int, values: Mapping[str, float]) -> None:
        for name, value in values.items():
            row = {"step": step, "epoch": epoch, "measure": name, "value": value}
            self._measures.write(row)
        self._plot({f"measure/{name}": value for name, value in values.items()}, step)

    def _plot(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._board.add_scalar(name, value, step)
        if self._tracker is not None:
            self._tracker.log(values, step=step)

    def __enter__(self) -> RunLog:
        self._progress.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._progress.stop()
        self._steps.close()
        self._measures.close()
        self._board.close()
        if self._tracker is not None:
            self._tracker.finish()
