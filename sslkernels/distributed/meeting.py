"""Waiting for the other ranks, and saying which ones did not come."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from datetime import timedelta
from typing import Any

import torch.distributed as dist

GRACE = timedelta(seconds=2)
"""How long ranks that waited in vain look for others that did."""


@contextlib.contextmanager
def meeting(op: str, group: Any) -> Iterator[None]:
    """Communication in which every rank of `group` takes part, or an error that names the absent.

    Costs nothing where all goes well. A rank whose communication fails, after the timeout of the
    group or since a connection broke, leaves a mark in the group's store and looks for the marks of
    the others: who leaves none is not waiting. With NCCL torch's own watchdog comes first: it ends
    the process.

    Raises:
        RuntimeError: the communication failed.
    """
    try:
        yield
    except RuntimeError as error:
        rank, world = dist.get_rank(group), dist.get_world_size(group)
        absent = _absent(group, rank, world)
        whom = f"rank {listed(absent)}" if absent else "the other ranks"
        raise RuntimeError(
            f"{op}: rank {rank} of {world} did not meet {whom} of group; every rank must call it, "
            f"and its backward where one does: {error}"
        ) from error


def _absent(group: Any, rank: int, world: int) -> list[int]:
    """The ranks that leave no mark in time; none where the store cannot be reached."""
    found: list[int] = []

    def look() -> None:
        # Whatever is wrong with the store, the caller has an error to raise.
        with contextlib.suppress(Exception):
            store = group.get_group_store()
            marks = [f"sslkernels/waited in vain/{other}" for other in range(world)]
            store.set(marks[rank], "")
            with contextlib.suppress(RuntimeError):  # not all of them came
                store.wait(marks, GRACE)
            found.extend(other for other, mark in enumerate(marks) if not store.check([mark]))

    # The store may be on a machine that does not answer: no call to it has a limit of its own.
    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    thread.join(2 * GRACE.total_seconds())
    return [] if thread.is_alive() else found


def listed(ranks: Sequence[int]) -> str:
    """The first few ranks: there may be thousands."""
    shown = ", ".join(str(rank) for rank in ranks[:8])
    return f"{shown} and {len(ranks) - 8} more" if len(ranks) > 8 else shown
