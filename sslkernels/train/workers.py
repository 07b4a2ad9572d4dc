"""Processes beside this one, which decode files and make batches ahead of the step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Generic, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

from sslkernels.train.errors import TrainError

Item = TypeVar("Item")
Made = TypeVar("Made")
DEATH = "DataLoader worker (pid"  # how torch begins to speak of one


def mapped(make: Callable[[Item], Made], items: Iterable[Item], workers: int = 0) -> Iterator[Made]:
    """`make` of each item, in their order: in this process as each is asked for, or by torch's
    `DataLoader` in `workers` processes, two items each ahead.

    torch's generator is left alone, whatever the number of workers.

    Raises:
        TrainError: a worker has died. What `make` raises there is raised here.
    """
    if not workers:
        yield from map(make, items)
        return
    loader = DataLoader(
        _Maker(make),
        sampler=items,
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_it_is,
        generator=torch.Generator(),  # of the workers' seeds, which else the shared one would give
    )
    try:
        yield from loader
    except RuntimeError as error:
        death = died(error)
        if death is None:
            raise
        raise death from error


def died(error: RuntimeError) -> TrainError | None:
    """The death of a worker, in one line; None for any other error. The loader tells of it wherever
    this process is at that moment."""
    reason = str(error).splitlines()[0] if str(error) else ""
    return TrainError(f"a worker is gone: {reason}") if reason.startswith(DEATH) else None


class _Maker(Dataset[Made], Generic[Item, Made]):
    """`dataset[item]`, as the loader asks for it, is what is made of the item."""

    def __init__(self, make: Callable[[Item], Made]) -> None:
        self.make = make

    def __getitem__(self, item: Item) -> Made:
        return self.make(item)


def _as_it_is(made: Any) -> Any:
    return made
