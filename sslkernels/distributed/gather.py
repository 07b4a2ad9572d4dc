"""The rows of every rank on every rank, and the gradients of all copies back to their owner.

The backward of a gather sums over the ranks: rank r's rows are keys on all of them. To leave the
copies of the others without a gradient, as is often done, is not the gradient of any loss.
"""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from sslkernels.checks import accumulate_dtype
from sslkernels.distributed import collectives
from sslkernels.distributed.agreement import Shares
from sslkernels.distributed.meeting import meeting


def gather_rows(x: Tensor, shares: Shares) -> Tensor:
    """All ranks' rows in the order of the ranks.

    Differentiable any number of times; every rank must call it, and its backward, in the same
    order among its collectives, so on every rank or on none the rows require a gradient.

    Args:
        x: [M, D], the rows of this rank, M = shares.counts[shares.rank].
        shares: from `agree`, which has seen to it that D, dtype and gradient are common.

    Returns:
        [shares.total, D]. The gradient of x is the sum over the ranks, in the accumulation dtype
        and in the order of the ranks, of what each has for x's rows.
    """
    return _GatherRows.apply(x, shares)  # type: ignore[no-any-return]


def sum_over_ranks(x: Tensor, shares: Shares) -> Tensor:
    """The sum of the ranks' tensors of one shape; its gradient is the sum of their gradients.

    Differentiable any number of times; every rank must call it, and its backward, as `gather_rows`.
    """
    return _Sum.apply(x, shares)  # type: ignore[no-any-return]


class _Sum(Function):
    @staticmethod
    def forward(ctx, x, shares):
        ctx.shares = shares
        total = x.clone(memory_format=torch.contiguous_format)
        with meeting(shares.op, shares.group):
            dist.all_reduce(total, group=shares.group)
        return total

    @staticmethod
    def backward(ctx, *grads):
        return _Sum.apply(grads[0], ctx.shares), None


class _GatherRows(Function):
    @staticmethod
    def forward(ctx, x, shares):
        ctx.shares = shares
        return _all_gather(x, shares)

    @staticmethod
    def backward(ctx, *grads):
        return _SumForOwners.apply(grads[0], ctx.shares), None


class _SumForOwners(Function):
    """The adjoint of the gather, whose own adjoint is the gather."""

    @staticmethod
    def forward(ctx, grad, shares):
        ctx.shares = shares
        return _reduce_scatter(grad, shares)

    @staticmethod
    def backward(ctx, *grads):
        return _GatherRows.apply(grads[0], ctx.shares), None


def _all_gather(x: Tensor, shares: Shares) -> Tensor:
    # Collectives want equal shares: the short ones are filled up, and cut again.
    largest = max(shares.counts)
    padded = F.pad(x, (0, 0, 0, largest - x.shape[0]))
    with meeting(shares.op, shares.group):
        gathered = collectives.all_gather(padded, shares.group)
    if shares.total == gathered.shape[0]:
        return gathered
    blocks = gathered.split(largest)
    return torch.cat([b[:count] for b, count in zip(blocks, shares.counts, strict=True)])


def _reduce_scatter(grad: Tensor, shares: Shares) -> Tensor:
    """As an exchange of blocks, summed by their owner.

    The same bytes as a reduce-scatter, but uneven shares need no filling, the order of the sum is
    fixed, and what travels in 16 bits is summed in 32.
    """
    mine = shares.counts[shares.rank]
    received = grad.new_empty(shares.world * mine, grad.shape[1])
    with meeting(shares.op, shares.group):
        dist.all_to_all_single(
            received, grad.contiguous(), [mine] * shares.world, list(shares.counts), shares.group
        )
    blocks = received.view(shares.world, mine, grad.shape[1])
    return blocks.sum(0, dtype=accumulate_dtype(grad.dtype)).to(grad.dtype)
