"""`sigmoid_loss_sum` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels.similarity import chunked
from sslkernels.similarity.chunked_terms import LogitGradients


def _signed_tile(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, rows: slice, columns: slice
) -> Tensor:
    """Logits, negated where row and column are no pair: each should be large."""
    tile = chunked.logits_tile(q, k, -scale, None, (), rows, columns).sub_(bias)
    _pairs(tile, first, rows, columns).neg_()
    return tile


def _pairs(tile: Tensor, first: int, rows: slice, columns: slice) -> Tensor:
    """The elements (i, i + first) of the whole matrix that lie in this tile; a view."""
    offset = first + rows.start - columns.start
    height, width = tile.shape
    if not -height < offset < width:
        return tile.new_empty(0)
    return tile.diagonal(offset)


def sigmoid_loss_forward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int = 0
) -> Tensor:
    """The sum over all pairs, 0-dim, in the accumulation dtype.

    Key i + first belongs to row i; from `first` = n on no key belongs to any.
    """
    q, k, scale, _ = chunked.wide(q, k, scale, None)
    total = q.new_zeros(())
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = _signed_tile(q, k, scale, bias, first, rows, columns)
                total -= F.logsigmoid(tile).sum()
    return total


def sigmoid_loss_forward_backward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The sum, then its gradients dq, dk, dscale, dbias, all in the accumulation dtype."""
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
                _pairs(tile, first, rows, columns).neg_()
                dbias += tile.sum()
                gradients.add(tile, rows, columns)
        dscale = (gradients.dq * q).sum()
        return total, gradients.dq * scale, gradients.dk * scale, dscale, dbias
