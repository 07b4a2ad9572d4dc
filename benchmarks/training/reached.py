"""Time to the same accuracy: what the runs of the trainer measured, against seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from rich.table import Table

from benchmarks import text
from benchmarks.errors import InputError
from sslkernels.train import checkpoint
from sslkernels.train.errors import TrainError
from sslkernels.train.logging import CSV, MEASURES, read_csv
from sslkernels.train.loop import CHECKPOINT


@dataclass(frozen=True)
class Curve:
    """The mean of runs that differ in their seed alone.

    Attributes:
        seconds: of training until each measurement, without the measuring: the steps, each taken to
            last as long as the run's median one, whatever else the machine did at times.
        values: what was measured then.
    """

    seconds: np.ndarray
    values: np.ndarray

    def first(self, level: float) -> float | None:
        """Seconds until it is at this level, on straight lines between measurements; those of the
        first measurement if it was there by then, None if it never is."""
        there = np.flatnonzero(self.values >= level)
        if there.size == 0:
            return None
        i = int(there[0])
        if i == 0:
            return float(self.seconds[0])
        return float(np.interp(level, self.values[i - 1 : i + 1], self.seconds[i - 1 : i + 1]))


def curve(runs: Sequence[Path], measure: str) -> Curve:
    """The curve of the runs in these folders.

    Raises:
        InputError: a folder has no finished measurements of this name, or not at the others' steps.
    """
    found = [_read(run, measure) for run in runs]
    first = found[0][0]
    for run, (steps, _, _) in zip(runs, found, strict=True):
        if steps != first:
            raise InputError(f"{run}: measured at steps {steps}, {runs[0]} at {first}")
    seconds = [np.array(steps) * step for steps, step, _ in found]
    return Curve(np.mean(seconds, axis=0), np.mean([values for _, _, values in found], axis=0))


def _read(run: Path, measure: str) -> tuple[list[int], float, list[float]]:
    """The steps at which a run was measured, a step's median seconds, the values."""
    try:
        batch = checkpoint.read(run / CHECKPOINT).settings["batch_size"]
        steps, measures = read_csv(run / CSV), read_csv(run / MEASURES)
    except (TrainError, OSError) as error:
        raise InputError(f"{run}: {error}") from None
    own = [row for row in measures if row["measure"] == measure]
    if not own:
        names = ", ".join(dict.fromkeys(row["measure"] for row in measures)) or "nothing"
        raise InputError(f"{run}: has no measurements of {measure!r}, but of {names}")
    seconds = np.median([batch / float(row["examples_per_second"]) for row in steps])
    return [int(row["step"]) for row in own], float(seconds), [float(row["value"]) for row in own]


def columns(measure: str) -> list[str]:
    return [measure, "theirs, s", "ours, s", "theirs / ours"]


def rows(ours: Curve, theirs: Curve) -> list[list[str]]:
    """Each level that theirs reach for the first time, and the seconds until then of both."""
    found, best = [], -np.inf
    for seconds, level in zip(theirs.seconds, theirs.values, strict=True):
        if level <= best:
            continue
        best, mine = level, ours.first(float(level))
        cells = (
            ["not reached", "-"]
            if mine is None
            else [text.significant(mine), f"{text.significant(seconds / mine)}x"]
        )
        found.append([f"{level:.1%}", text.significant(float(seconds)), *cells])
    return found


def page(measure: str, found: Sequence[Sequence[str]]) -> str:
    """The rows as Markdown."""
    return f"# Time to the same {measure}\n\n{text.markdown_table(columns(measure), found)}\n"


def table(measure: str, found: Sequence[Sequence[str]]) -> Table:
    """The rows for a terminal."""
    result = Table(title=f"Time to the same {measure}", title_justify="left")
    for name in columns(measure):
        result.add_column(name, justify="right")
    for row in found:
        result.add_row(*row)
    return result
