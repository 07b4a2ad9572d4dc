"""A run that has been: its method, with the weights of its checkpoint."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sslkernels.train import checkpoint
from sslkernels.train.errors import TrainError
from sslkernels.train.loop import CHECKPOINT
from sslkernels.train.methods.image import ImageMethod


@dataclass(frozen=True)
class Finished:
    """facts: of the images that it learnt from, see `images.Images.facts`; settings: of the run."""

    method: ImageMethod[Any]
    facts: dict[str, Any]
    settings: dict[str, Any]


def read(run: Path) -> Finished:
    """The method of a run on images, as its last checkpoint has it.

    Raises:
        TrainError: as `checkpoint.read`; the run's method is unknown or does not learn from images.
    """
    # Here, since that module knows methods that begin with a finished run.
    from sslkernels.train.registry import METHODS

    state = checkpoint.read(run / CHECKPOINT)
    name = state.settings.get("method")
    entry = METHODS.get(str(name))
    if entry is None or not issubclass(entry.method, ImageMethod):
        raise TrainError(f"{run} is a run of {name!r}, not of a method that learns from images")
    facts = {key: state.settings[key] for key in ("shape", "names")}
    # An option that is newer than the run is as if it had not been given.
    own = {key: state.settings.get(key, option.default) for key, option in entry.own.items()}
    method = entry.method.made_for(facts, **own)
    method.load_state_dict(state.model)
    return Finished(method.eval(), facts, state.settings)
