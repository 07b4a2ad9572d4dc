"""A finished run's encoder in a file of its own, which is loaded again and compared."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from sslkernels.train.after.formats import Format, write
from sslkernels.train.after.int8 import in_int8
from sslkernels.train.after.known import accuracy, images_of
from sslkernels.train.errors import TrainError
from sslkernels.train.finished import Finished, read
from sslkernels.train.images import Images

COMPARED = 7  # random images


@dataclass(frozen=True)
class Exported:
    """What the file says of random images, and how well it tells those of the data apart.

    difference: the largest of a number from the network's own; int8: how many layers are; accuracy:
    of the network and of the file, by its name; unmeasured: why there is none.
    """

    difference: float
    int8: int
    measure: str
    accuracy: tuple[float, float] | None
    unmeasured: str = ""


def export(
    run: Path, to: Path, form: Format = Format.pt2, *, int8: bool = False, data: str | None = None
) -> Exported:
    """Write the network of a finished run, for batches of any size, and load it again.

    The file takes float32 images [B, C, H, W] in [0, 1], H and W those of the run, and gives the
    encoder's features [B, D], or where the run has a classifier, logits [B, classes]. In an .onnx
    file they are called "images" and "out".

    Args:
        int8: make linear layers int8, see `int8.Int8Linear`.
        data: images to measure with; those of the run, where they are at hand, for None.

    Raises:
        TrainError: the run or the data cannot be read; `to` cannot be written or is not named as
            the format; packages of the format are not installed; int8, without linear layers.
    """
    if to.suffix != f".{form.value}":
        raise TrainError(f"to is {to}, must end in .{form.value}")
    finished = read(run)
    known, unmeasured = _known(finished, data)
    method, own = finished.method, finished.method.deployed.eval()
    network, count = in_int8(own) if int8 else (own, 0)
    with torch.no_grad():
        written = write(network, finished.facts["shape"], to, form)
        images = torch.rand(COMPARED, *finished.facts["shape"])
        difference = (written(images) - own(images)).abs().max().item()
    measured = None
    if known is not None:
        before, after = (accuracy(x, known, classifies=method.classifies) for x in (own, written))
        measured = before, after
    name = "accuracy" if method.classifies else "kNN accuracy"
    return Exported(difference, count, name, measured, unmeasured)


def _known(finished: Finished, data: str | None) -> tuple[Images | None, str]:
    """Images with classes, or why there are none."""
    try:
        known = images_of(finished, data)
    except TrainError as error:
        if data is not None:
            raise
        return None, str(error)
    return (known, "") if len(known.names) > 1 else (None, "the data has no classes")
