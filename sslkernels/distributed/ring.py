"""The engine over keys that travel round the ranks: no rank ever holds those of all.

The tiles are the engine's own, a block of keys at a time. A log-sum-exp merges those of the blocks,
and its backward, a second round, gives the engine the joint one, so that each block yields its part
of the gradients. Sums over pairs need one round: value and gradients come together.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd import Function
from torch.autograd.function import once_differentiable

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.distributed.agreement import Shares
from sslkernels.distributed.rounds import round_trip
from sslkernels.operators import NAMESPACES
from sslkernels.similarity.op import scale_tensor


def logsumexp(
    q: Tensor,
    k: Tensor,
    shares: Shares,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """`log sum_j exp(scale * <q_i, k_j> + bias_j)` over the keys of all ranks.

    Differentiable once in q, k, scale and bias; the gradient of k is the sum over the ranks. Every
    rank must call it, and its backward, in the same order among its collectives, so on every rank
    or on none each argument requires a gradient. Arguments are not checked here.

    Args:
        q: [M, D], the rows of this rank; M may be 0.
        k: [m, D], the keys of this rank, m = shares.counts[shares.rank]; the dtype of q.
        shares: from `agree`, which has seen to it that D, dtype and gradient are common.
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [m] floating, added to the columns of this rank's keys; on every rank or on none.
        exclude: offsets; for each offset o, this rank's key (i + o) mod m does not count for row i.

    Returns:
        [M] in the accumulation dtype; -inf where no key is left.
    """
    bias = None if bias is None else bias.to(accumulate_dtype(q.dtype)).contiguous()
    settings = shares, tuple(exclude), backends.matmul_precision(), _operators("logsumexp", q)
    return _LogSumExp.apply(  # type: ignore[no-any-return]
        q.contiguous(), k.contiguous(), scale_tensor(scale, q), bias, *settings
    )


def sigmoid_loss_sum(
    q: Tensor, k: Tensor, shares: Shares, scale: float | Tensor, bias: float | Tensor
) -> Tensor:
    """`-sum_ij log sigmoid(y_ij s_ij)` over this rank's rows i and the keys j of all ranks.

    With s_ij = scale * <q_i, k_j> + bias, and y_ij 1 where j is the i-th key of this rank, else -1.
    Differentiable once in all four; the gradient of k is the sum over the ranks. Value and
    gradients come from one round, and the backward communicates nothing. Every rank must call it,
    with the same arguments requiring a gradient. Arguments are not checked here.

    Args:
        q, k: [m, D] of one dtype, m = shares.counts[shares.rank].
        shares: from `agree`.
        scale, bias: floats, or floating tensors with one element to get their gradients.

    Returns:
        0-dim tensor in the accumulation dtype.
    """
    scale, bias = scale_tensor(scale, q), scale_tensor(bias, q)
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, scale, bias))
    settings = shares, wanted, backends.matmul_precision(), _operators("sigmoid_loss", q)
    return _SigmoidLoss.apply(  # type: ignore[no-any-return]
        q.contiguous(), k.contiguous(), scale, bias, *settings
    )


def _operators(op: str, q: Tensor) -> Any:
    """The dense definition has no blocks: plain PyTorch stands in for it."""
    name = backends.choose(op, q)
    return NAMESPACES["chunked" if name == "reference" else name]


class _LogSumExp(Function):
    @staticmethod
    def forward(ctx, q, k, scale, bias, shares, exclude, precision, operators):
        lse = q.new_full((q.shape[0],), float("-inf"), dtype=accumulate_dtype(q.dtype))

        def visit(owner, block):
            nonlocal lse
            keys, key_bias = block[0], block[1] if len(block) > 1 else None
            if keys.shape[0]:
                out = exclude if owner == shares.rank else ()
                forward = operators.logsumexp_forward.default
                part = forward(q, keys, scale, key_bias, out, precision)
                lse = torch.logaddexp(lse, part)
            return ()

        round_trip(shares, _block(k, bias), visit)
        ctx.save_for_backward(lse, q, k, scale, bias)
        ctx.settings = shares, exclude, precision, operators
        return lse

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        lse, q, k, scale, bias = ctx.saved_tensors
        shares, exclude, precision, operators = ctx.settings
        grad = grads[0].contiguous()
        dq, dscale = torch.zeros_like(q, dtype=lse.dtype), lse.new_zeros(())
        _, to_keys, _, to_bias, *_ = ctx.needs_input_grad

        def visit(owner, block):
            keys, key_bias = block[0], block[1] if len(block) > 1 else None
            dk = torch.zeros_like(keys, dtype=lse.dtype)
            dbias = lse.new_zeros(keys.shape[0])
            if keys.shape[0]:
                out = exclude if owner == shares.rank else ()
                backward = operators.logsumexp_backward.default
                more_dq, dk, more_dscale, dbias = backward(
                    grad, lse, q, keys, scale, key_bias, out, to_keys, precision
                )
                dq.add_(more_dq)
                dscale.add_(more_dscale)
            # The sum travels on in the accumulation dtype: 16 bits would round it at every rank.
            return [*([dk.to(lse.dtype)] if to_keys else []), *([dbias] if to_bias else [])]

        home = round_trip(shares, _block(k, bias), visit)
        dk = home.pop(0).to(k.dtype) if to_keys else None
        dbias = home.pop(0) if to_bias else None
        return dq.to(q.dtype), dk, dscale, dbias, None, None, None, None


def _block(k: Tensor, bias: Tensor | None) -> list[Tensor]:
    return [k] if bias is None else [k, bias]


class _SigmoidLoss(Function):
    @staticmethod
    def forward(ctx, q, k, scale, bias, shares, wanted, precision, operators):
        dtype = accumulate_dtype(q.dtype)
        total, dscale, dbias = q.new_zeros(3, dtype=dtype).unbind()
        dq = torch.zeros_like(q, dtype=dtype) if wanted else None

        def visit(owner, block):
            (keys,) = block
            # Beyond the last key there is no pair.
            first = 0 if owner == shares.rank else keys.shape[0]
            settings = scale, bias, first, "sum", precision
            if dq is None:
                if keys.shape[0]:
                    total.add_(operators.sigmoid_loss_forward.default(q, keys, *settings))
                return ()
            dk = torch.zeros_like(keys, dtype=dtype)
            if keys.shape[0]:
                forward_backward = operators.sigmoid_loss_forward_backward.default
                value, more_dq, dk, *more = forward_backward(q, keys, *settings)
                found = value, more_dq, *more
                for x, part in zip((total, dq, dscale, dbias), found, strict=True):
                    x.add_(part)
            # The sum travels on in the accumulation dtype: 16 bits would round it at every rank.
            return [dk.to(dtype)] if ctx.needs_input_grad[1] else ()

        home = round_trip(shares, [k], visit)
        if wanted:
            ctx.save_for_backward(dq, home[0] if home else None, dscale, dbias)
            ctx.dtype = q.dtype
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, *grads):  # pyright: ignore[reportIncompatibleMethodOverride]
        # Out of place: a second backward finds them as they were.
        dq, dk, dscale, dbias = ctx.saved_tensors
        dk = None if dk is None else (dk * grads[0]).to(ctx.dtype)
        dq = (dq * grads[0]).to(ctx.dtype)
        return dq, dk, dscale * grads[0], dbias * grads[0], None, None, None, None
