"""A run in Weights & Biases, beside its own files, through `accelerate`'s tracker."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from enum import Enum
from pathlib import Path
from typing import Any

from sslkernels.train.errors import TrainError, require

PROJECT = "sslkernels"
ID = "wandb-id"  # of the run there, so that a resumed run goes on in it


class Tracker(str, Enum):
    """Where a run is shown beside TensorBoard."""

    wandb = "wandb"


def needed(tracker: Tracker) -> None:
    """Raises TrainError unless the tracker's package is installed."""
    require(tracker.value, tracker.value, by=f"--tracker {tracker.value}", install=tracker.value)


def start(tracker: Tracker, out: Path, settings: Mapping[str, Any], *, resume: bool) -> Any:
    """A started tracker of `accelerate` with these settings. Where it goes to, and whether it goes
    there at all, W&B's own variables say: WANDB_MODE, WANDB_PROJECT, WANDB_ENTITY.

    Raises:
        TrainError: its package is not installed, or it does not start.
        OSError: `out` cannot be written to.
    """
    needed(tracker)
    tracking = require("accelerate.tracking", "accelerate")
    out.mkdir(parents=True, exist_ok=True)
    name = out / ID
    if not (resume and name.exists()):
        name.write_text(uuid.uuid4().hex[:12])
    try:
        run = tracking.WandBTracker(
            PROJECT, name=out.name, dir=str(out), id=name.read_text(), resume="allow"
        )
        run.start()
        run.store_init_configuration(dict(settings))
    except Exception as error:  # W&B's own, as of a key that is missing
        reason = next(iter(str(error).splitlines()), type(error).__name__)
        raise TrainError(f"--tracker {tracker.value}: {reason}") from error
    return run
