"""The contrastive accuracy: one tile of logits at a time, on any device."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.operators import define_chunked
from sslkernels.similarity import chunked


def contrastive_accuracy(keys: Tensor, start: int, rows: int) -> Tensor:
    """Share of the rows from `start` whose positive beats every negative among all keys.

    Args:
        keys: [K, D], in the accumulation dtype.
        start: the first of the rows, of which the first half is one view, the second the other.
        rows: how many.
    """
    return torch.ops.sslkernels_chunked.contrastive_accuracy.default(keys, start, rows)


def _chunked(keys: Tensor, start: int, rows: int) -> Tensor:
    n = rows // 2
    hits = torch.zeros((), dtype=torch.int64, device=keys.device)
    with torch.autocast(keys.device.type, enabled=False):
        for own, other in ((start, start + n), (start + n, start)):
            z = keys[own : own + n]
            row_slices, column_slices = chunked.tiles(n, keys.shape[0], keys.dtype)
            for at in row_slices:
                positive = z.new_full((at.stop - at.start,), float("-inf"))
                best = positive.clone()
                for columns in column_slices:
                    tile = chunked.logits_tile(z, keys, 1.0, None, (own,), at, columns)
                    for diagonal in chunked.diagonals(keys.shape[0], other, at, columns):
                        # From the same product as its rivals, so that equal rows tie.
                        values = tile.diagonal(diagonal)
                        first = max(0, -diagonal)
                        positive[first : first + values.shape[0]] = values
                        values.fill_(float("-inf"))
                    best = torch.maximum(best, tile.amax(1))
                hits += (positive > best).sum()
    return hits.to(keys.dtype) / max(rows, 1)


def _fake(keys, start, rows):
    return keys.new_empty(())


define_chunked(
    "contrastive_accuracy",
    "(Tensor keys, int start, int rows) -> Tensor",
    _chunked,
    _fake,
)
