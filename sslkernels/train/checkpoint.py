"""Save and load the whole state of a run; a kill at any moment leaves the previous file whole."""

from __future__ import annotations

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from sslkernels.train.errors import TrainError
from sslkernels.train.replacing import replacing

TAG = "sslkernels_checkpoint"
VERSION = 2


@dataclass
class Checkpoint:
    """All that the next step depends on."""

    settings: dict[str, Any]
    step: int  # steps done
    model: dict[str, Any]  # with teachers, queues and running statistics
    optimizers: dict[str, dict[str, Any]]  # by the turn that they take
    schedulers: dict[str, dict[str, Any]]
    rng: list[torch.Tensor]  # of torch's own generators: the CPU's, then every accelerator's


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write it in place of an older one, which stays whole until then.

    Raises:
        TrainError: it cannot be written, as on a full disk.
    """
    # Not dataclasses.asdict: it would copy every tensor.
    state = {field.name: getattr(checkpoint, field.name) for field in fields(Checkpoint)}
    with replacing(path) as file:
        torch.save({TAG: VERSION, **state}, file)


def read(path: Path) -> Checkpoint:
    """Read a checkpoint, whatever run it is of.

    Raises:
        TrainError: there is no file, it is torn or no checkpoint, or of another version.
    """
    if not path.exists():
        raise TrainError(f"there is no {path}")
    try:
        # weights_only: a checkpoint from elsewhere cannot run code.
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # unpicklers raise almost anything
        raise TrainError(f"{path} is torn, or is no checkpoint ({type(error).__name__})") from error
    if not isinstance(state, dict) or TAG not in state:
        raise TrainError(f"{path} is not a checkpoint of a training run")
    version = state.pop(TAG)
    if version != VERSION:
        raise TrainError(f"{path} is of version {version}, this program reads version {VERSION}")
    return Checkpoint(**state)


def load(path: Path, settings: dict[str, Any]) -> Checkpoint:
    """Read a checkpoint of a run with the same settings.

    Raises:
        TrainError: as `read`, or its run had other settings (a resumed run would not be the
            unbroken one).
    """
    if not path.exists():
        raise TrainError(f"nothing to resume: there is no {path}")
    checkpoint = read(path)
    differences = [
        f"{name} {checkpoint.settings.get(name)!r}, not {value!r}"
        for name, value in settings.items()
        if checkpoint.settings.get(name) != value
    ]
    if differences:
        raise TrainError(f"{path} is of a run with {'; '.join(differences)}")
    return checkpoint
