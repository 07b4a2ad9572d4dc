"""Blocks of rows that travel from rank to rank, and what is found for them, which travels home."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch.distributed as dist
from torch import Tensor

from sslkernels.distributed.agreement import Shares
from sslkernels.distributed.meeting import meeting


def round_trip(
    shares: Shares,
    own: Sequence[Tensor],
    visit: Callable[[int, Sequence[Tensor]], Sequence[Tensor]],
) -> list[Tensor]:
    """Show every rank's block to every rank, and bring home the sum of what they found for it.

    In each of as many steps as there are ranks a rank sends its block to the next one, and the next
    block, and the sums that belong to the one at hand, come in while `visit` works. No rank holds
    more than its own block, two others and their sums.

    Args:
        shares: from `agree`; every rank must come here.
        own: this rank's block: contiguous tensors of shares.counts[shares.rank] rows each, of the
            same number, dtypes and widths on every rank.
        visit: called with a block and the rank that owns it, this rank's own first; returns
            tensors with a row for each row of the block, or none, on every rank alike.

    Returns:
        For each tensor that `visit` returns its sum over the ranks, for the own block; the own part
        first, then in the order of the ranks that follow.
    """
    world, rank = shares.world, shares.rank
    block, carried, kept = list(own), [], []
    for step in range(world):
        owner = (rank - step) % world
        last = step + 1 == world
        following = [] if last else _empty_like(block, shares.counts[owner - 1])
        arriving = _empty_like(carried, shares.counts[owner])
        transfer = _Transfer(shares, [*([] if last else block), *carried], [*following, *arriving])
        found = list(visit(owner, block))
        transfer.wait()
        if step == 0:
            kept = found
        else:
            carried = _add(arriving, found) if arriving else found
        block = following
    # The block at hand belongs to the next rank.
    arriving = _empty_like(carried, shares.counts[rank])
    _Transfer(shares, carried, arriving).wait()
    return _add(kept, arriving) if arriving else kept


class _Transfer:
    """Tensors on their way to the next rank and from the one before; an empty one stays."""

    def __init__(self, shares: Shares, out: Sequence[Tensor], into: Sequence[Tensor]) -> None:
        self.shares = shares
        self.tensors = (*out, *into)  # alive until they have arrived
        following, before = (shares.rank + 1) % shares.world, (shares.rank - 1) % shares.world
        moves = [(dist.isend, x, following) for x in out] + [(dist.irecv, x, before) for x in into]
        operations = [
            dist.P2POp(move, x, group=shares.group, group_peer=peer)
            for move, x, peer in moves
            if x.numel()
        ]
        self.requests = []
        if operations:
            with meeting(shares.op, shares.group):
                self.requests = dist.batch_isend_irecv(operations)

    def wait(self) -> None:
        with meeting(self.shares.op, self.shares.group):
            for request in self.requests:
                request.wait()


def _empty_like(tensors: Sequence[Tensor], rows: int) -> list[Tensor]:
    return [x.new_empty(rows, *x.shape[1:]) for x in tensors]


def _add(total: Sequence[Tensor], more: Sequence[Tensor]) -> list[Tensor]:
    return [a.add_(b) for a, b in zip(total, more, strict=True)]
