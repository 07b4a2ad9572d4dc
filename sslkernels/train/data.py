"""What the loop trains on: examples by number, in batches of random order."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, TypeVar

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError
from sslkernels.train.seeds import fold

Batch = TypeVar("Batch", Tensor, dict[str, Tensor])
_Batch = TypeVar("_Batch", Tensor, dict[str, Tensor], covariant=True)


class Examples(Protocol[_Batch]):
    """Training data, by number: what the loop asks for, `batch_size` at a time."""

    unit: str  # what one is called, in the plural

    def __len__(self) -> int: ...

    def batch(self, index: Tensor, epoch: int) -> _Batch:
        """Examples `index`, int64 [B], as they are in this epoch; tensors on the CPU.

        The same index and epoch give the same example, whatever else is in the batch.
        """
        ...


def steps_per_epoch(data: Examples[Batch], batch_size: int) -> int:
    """Raises TrainError when there are fewer examples than a batch."""
    if batch_size > len(data):
        raise TrainError(
            f"batch size is {batch_size}, but there are {len(data)} training {data.unit}"
        )
    return len(data) // batch_size


def batches(count: int, batch_size: int, seed: int, epoch: int) -> Iterator[Tensor]:
    """The numbers 0..count-1 in an order that depends on seed and epoch alone; the incomplete last
    batch is left out, so every step has the same number of negatives."""
    # Of its own: nothing else that draws can change the data order.
    generator = torch.Generator().manual_seed(fold(seed, "order", epoch))
    order = torch.randperm(count, generator=generator)
    for start in range(0, count - batch_size + 1, batch_size):
        yield order[start : start + batch_size]


def moved(batch: Batch, device: torch.device, dtype: torch.dtype) -> Batch:
    """The batch on the device, with its floating-point numbers in this dtype."""
    if isinstance(batch, dict):
        return {name: moved(value, device, dtype) for name, value in batch.items()}
    return batch.to(device, dtype) if batch.is_floating_point() else batch.to(device)
