"""`pair_terms` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity import chunked
from sslkernels.similarity.chunked_terms import LogitGradients


def pairs(tile: Tensor, rows: slice, columns: slice, first: int = 0) -> tuple[Tensor, slice]:
    """The elements (i, first + i) of the whole matrix that lie in this tile, and their rows.

    The elements are a view.
    """
    offset = rows.start + first - columns.start
    height, width = tile.shape
    if not -height < offset < width:
        return tile.new_empty(0), slice(rows.start, rows.start)
    elements = tile.diagonal(offset)
    start = rows.start + max(0, -offset)
    return elements, slice(start, start + elements.shape[0])


def pair_terms_forward(
    q: Tensor, k: Tensor, scale: Tensor, first: int, precision: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The lse of rows [M] and of columns [n], and the pairs' logits [M], accumulation dtype."""
    q, k, scale, _ = chunked.wide(q, k, scale, None)
    row_lse = q.new_full((q.shape[0],), float("-inf"))
    column_lse = q.new_full((k.shape[0],), float("-inf"))
    pair_logit = q.new_empty(q.shape[0])
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = chunked.logits_tile(q, k, scale, None, (), rows, columns)
                row_lse[rows] = torch.logaddexp(row_lse[rows], tile.logsumexp(1))
                column_lse[columns] = torch.logaddexp(column_lse[columns], tile.logsumexp(0))
                elements, at = pairs(tile, rows, columns, first)
                pair_logit[at] = elements
    return row_lse, column_lse, pair_logit


def pair_terms_backward(
    grad_row: Tensor,
    grad_column: Tensor,
    grad_pair: Tensor,
    row_lse: Tensor,
    column_lse: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    first: int,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dscale of the terms' sum, weighted by the three upstream gradients."""
    dtype = q.dtype
    q, k, scale, _ = chunked.wide(q, k, scale, None)
    gradients = LogitGradients(q, k, with_bias=False)
    # Where every logit is -inf: exp(-inf - 0) is the zero that it wants.
    row_lse, column_lse = (x.masked_fill(x == float("-inf"), 0.0) for x in (row_lse, column_lse))
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = chunked.logits_tile(q, k, scale, None, (), rows, columns)
                of_rows = (tile - row_lse[rows, None]).exp_().mul_(grad_row[rows, None])
                tile.sub_(column_lse[columns]).exp_().mul_(grad_column[columns]).add_(of_rows)
                elements, at = pairs(tile, rows, columns, first)
                elements += grad_pair[at]
                gradients.add(tile, rows, columns)
        dscale = (gradients.dq * q).sum()
        return (gradients.dq * scale).to(dtype), (gradients.dk * scale).to(dtype), dscale
