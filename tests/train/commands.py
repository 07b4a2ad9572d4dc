"""The command line as a test calls it, and what a run leaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from sslkernels.train import checkpoint
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.cli import app
from sslkernels.train.images import digits
from sslkernels.train.logging import read_csv
from sslkernels.train.loop import CHECKPOINT
from sslkernels.train.registry import METHODS


def train(*arguments: object) -> Any:
    return CliRunner().invoke(app, [str(x) for x in arguments])


def measured(out: Path) -> dict[str, tuple[float, float]]:
    """What the summary says of each measure: untrained and trained; percentages as shares."""
    table = (out / "summary.md").read_text().split("| --- | --- | --- |\n")[1].split("\n\n")[0]
    found = {}
    for row in table.splitlines():
        name, *values = [cell.strip() for cell in row.strip("|").split("|")]
        numbers = [float(re.sub("[%,]", "", x)) / (100 if "%" in x else 1) for x in values]
        found[name] = (numbers[0], numbers[1])
    return found


def losses(out: Path) -> torch.Tensor:
    rows = read_csv(out / "metrics.csv")
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


def untrained(out: Path, name: str, data: str = "digits", **own: Any) -> Path:
    """The folder of a run of this method on digits that ended before its first step: in no time."""
    torch.manual_seed(0)
    facts = digits().facts
    method = METHODS[name].method.made_for(facts, **own)  # type: ignore[attr-defined]
    settings = {"method": name, "data": data, "batch_size": 64, **facts, **own}
    out.mkdir(parents=True, exist_ok=True)
    state = Checkpoint(settings, 0, method.state_dict(), {}, {}, [torch.get_rng_state()])
    checkpoint.save(out / CHECKPOINT, state)
    return out
