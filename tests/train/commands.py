"""The command line as a test calls it, and what a run leaves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import torch
from typer.testing import CliRunner

from sslkernels.train.cli import app
from sslkernels.train.logging import read_csv


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
