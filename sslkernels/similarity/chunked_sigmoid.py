"""`sigmoid_loss` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity import chunked
from sslkernels.similarity.chunked_pairs import pairs
from sslkernels.similarity.chunked_terms import LogitGradients


def _signed_tile(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, rows: slice, columns: slice
) -> Tensor:
    """Logits, negated where row and column are no pair: each should be large."""
    tile = chunked.logits_tile(q, k, -scale, None, (), rows, columns).sub_(bias)
    pairs(tile, rows, columns, first)[0].neg_()
    return tile


def gradient_dtype(dtype: torch.dtype) -> torch.dtype:
    """That of dq and dk for inputs of `dtype`.

    Single elements are too small for float16 until the upstream gradient, in which a loss scaler
    puts its factor, has multiplied them.
    """
    return accumulate_dtype(dtype) if dtype is torch.float16 else dtype


def row_weight(q: Tensor, reduction: str) -> float:
    """What a row counts; nothing is what a mean over no rows is."""
    return 1 / max(1, q.shape[0]) if reduction == "mean" else 1.0


def sigmoid_loss_forward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, reduction: str, precision: int
) -> Tensor:
    """The sum over all pairs, 0-dim, or its mean over rows, in the accumulation dtype.

    `precision` is torch's own setting here.
    """
    q, k, scale, _ = chunked.wide(q, k, scale, None)
    total = q.new_zeros(())
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = _signed_tile(q, k, scale, bias, first, rows, columns)
                total -= F.logsigmoid(tile).sum()
    return total * row_weight(q, reduction)


def sigmoid_loss_forward_backward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, reduction: str, precision: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss, then its gradients dq, dk, dscale, dbias."""
    dtype = gradient_dtype(q.dtype)
    q, k, scale, _ = chunked.wide(q, k, scale, None)
    total, dbias = q.new_zeros(()), q.new_zeros(())
    gradients = LogitGradients(q, k, with_bias=False)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = _signed_tile(q, k, scale, bias, first, rows, columns)
                total -= F.logsigmoid(tile).sum()
                tile.neg_().sigmoid_()
                pairs(tile, rows, columns, first)[0].neg_()
                dbias += tile.sum()
                gradients.add(tile, rows, columns)
        dscale = (gradients.dq * q).sum()
        weight = row_weight(q, reduction)
        factor = scale * weight
        dq, dk = (gradients.dq * factor).to(dtype), (gradients.dk * factor).to(dtype)
        return total * weight, dq, dk, dscale * weight, dbias * weight
