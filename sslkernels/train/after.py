"""What comes after training: an encoder for a program that has never heard of this package."""

from __future__ import annotations

from pathlib import Path

import torch

from sslkernels.train.errors import TrainError
from sslkernels.train.finished import read

BATCH = 4


def export(run: Path, to: Path) -> float:
    """Write the encoder of a finished run by `torch.export`, for batches of any size.

    What was written is loaded again and compared. Takes float32 images [B, C, H, W] in [0, 1], H
    and W those of the run; gives features [B, D].

    Returns:
        The largest difference of a feature from the encoder's.

    Raises:
        TrainError: the run cannot be read, `to` cannot be written or does not end in .pt2.
    """
    if to.suffix != ".pt2":
        raise TrainError(f"to is {to}, must end in .pt2")
    finished = read(run)
    encoder = finished.method.encoder.float().eval()
    images = torch.rand(BATCH, *finished.facts["shape"])
    dynamic = ({0: torch.export.Dim("batch", min=1)},)
    with torch.no_grad():
        program = torch.export.export(encoder, (images,), dynamic_shapes=dynamic)
        try:
            torch.export.save(program, to)
        except (OSError, RuntimeError) as error:
            raise TrainError(f"cannot write {to}: {str(error).splitlines()[0]}") from error
        other = torch.rand(BATCH + 3, *finished.facts["shape"])
        loaded = torch.export.load(to).module()
        return (loaded(other) - encoder(other)).abs().max().item()
