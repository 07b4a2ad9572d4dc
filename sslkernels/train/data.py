"""What the loop trains on, and images that need no download, as tensors in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError, require

Batch = TypeVar("Batch", Tensor, dict[str, Tensor])
_Batch = TypeVar("_Batch", Tensor, dict[str, Tensor], covariant=True)


class Examples(Protocol[_Batch]):
    """Training data, by number: what the loop asks for, `batch_size` at a time."""

    unit: str  # what one is called, in the plural

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, epoch: int) -> _Batch:
        """Examples `index`, int64 [B], as they are in this epoch; tensors on the CPU with B rows.

        The same index and epoch give the same row, whatever else is in the batch.
        """
        ...


class Rows:
    """Examples that are the rows of a tensor, the same in every epoch."""

    def __init__(self, rows: Tensor, unit: str = "images") -> None:
        self.rows = rows
        self.unit = unit

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, epoch: int) -> Tensor:
        return self.rows[index]


@dataclass(frozen=True)
class Images:
    """Grey or colour images in 0..1 with labels that only the evaluation reads.

    train, test: float32 [N, C, H, W]; train_labels, test_labels: int64 [N].
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor


def digits() -> Images:
    """scikit-learn's handwritten digits: 1797 grey images of 8 x 8, the last fifth held out.

    The split keeps the order of the collection: a shuffled split puts digits of one hand on both
    sides, and is easier by three points of kNN accuracy on raw pixels.
    """
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    images = torch.from_numpy(bunch.images).float().unsqueeze(1) / 16
    labels = torch.from_numpy(bunch.target).long()
    split = len(images) * 4 // 5
    return Images(images[:split], labels[:split], images[split:], labels[split:])


SOURCES: dict[str, Callable[[], Images]] = {"digits": digits}


def load(name: str) -> Images:
    """Load a data set by name. Raises TrainError for a name that is not in `SOURCES`."""
    if name not in SOURCES:
        raise TrainError(f"unknown data {name!r}: known are {', '.join(sorted(SOURCES))}")
    return SOURCES[name]()


def batches(count: int, batch_size: int, generator: torch.Generator) -> Iterator[Tensor]:
    """The numbers 0..count-1 in random order; the incomplete last batch is left out, so every
    step has the same number of negatives."""
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def moved(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch on the device, with its floating-point numbers in this dtype."""
    if isinstance(batch, dict):
        return {name: moved(value, device, dtype) for name, value in batch.items()}
    return batch.to(device, dtype) if batch.is_floating_point() else batch.to(device)
