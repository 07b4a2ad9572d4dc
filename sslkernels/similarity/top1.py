"""`top1_hits`: whose positive is the nearest of its keys. Plain PyTorch on every device."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.operators import define_chunked
from sslkernels.similarity import chunked

_ROWS = 256


def top1_hits(
    q: Tensor,
    positive: Tensor,
    keys: Tensor,
    row_ids: Tensor | None = None,
    key_ids: Tensor | None = None,
    scale: Tensor | None = None,
    bias: Tensor | None = None,
    *,
    in_batch: bool,
) -> Tensor:
    """[N] bool: the positive of row i is strictly nearer than each of its keys. No gradient.

    Arguments are not checked here.

    Args:
        q, positive: [N, D].
        keys: [n, D]; with in_batch, key i is the positive of row i and does not count for it.
        row_ids, key_ids: [N] and [n] int64; keys of a row's id do not count for it.
        scale, bias: what turns products into logits; the bias is of all keys, in_batch [n], else
            [N + n] with the positives first.
    """
    operator = torch.ops.sslkernels_chunked.top1_hits.default
    q, positive, keys = (x.detach() for x in (q, positive, keys))
    scale, bias = (x if x is None else x.detach() for x in (scale, bias))
    return operator(q, positive, keys, row_ids, key_ids, scale, bias, in_batch)


def _top1_hits(
    q: Tensor,
    positive: Tensor,
    keys: Tensor,
    row_ids: Tensor | None,
    key_ids: Tensor | None,
    scale: Tensor | None,
    bias: Tensor | None,
    in_batch: bool,
) -> Tensor:
    """One tile of logits at a time, each with the positives of its rows as first columns.

    From the same product as its rivals a positive ties with a key that equals it.
    """
    factor = torch.ones((), device=q.device) if bias is None or scale is None else scale
    q, positive, factor, bias = chunked.wide(q, positive, factor, bias)
    keys, n = keys.to(q.dtype), q.shape[0]
    first = 0 if in_batch else n
    hits = torch.empty(n, dtype=torch.bool, device=q.device)
    with torch.autocast(q.device.type, enabled=False):
        for start in range(0, n, _ROWS):
            rows = slice(start, min(start + _ROWS, n))
            height = rows.stop - rows.start
            own = torch.full((height,), float("nan"), dtype=q.dtype, device=q.device)
            best = torch.full_like(own, float("-inf"))
            _, column_slices = chunked.tiles(height, keys.shape[0], q.dtype)
            for columns in column_slices:
                tile = (q[rows] * factor) @ torch.cat([positive[rows], keys[columns]]).T
                logit, rivals = tile[:, :height].diagonal(), tile[:, height:]
                if bias is not None:
                    logit += bias[rows]
                    rivals += bias[first + columns.start : first + columns.stop]
                if in_batch:
                    for diagonal in chunked.diagonals(keys.shape[0], 0, rows, columns):
                        rivals.diagonal(diagonal).fill_(float("-inf"))
                if row_ids is not None and key_ids is not None:
                    same = row_ids[rows, None] == key_ids[columns]
                    rivals.masked_fill_(same, float("-inf"))
                own = logit.clone() if columns.start == 0 else own
                best = torch.maximum(best, rivals.amax(1))
            hits[rows] = own > best
    return hits


def _fake(q, positive, keys, row_ids, key_ids, scale, bias, in_batch):
    return q.new_empty(q.shape[0], dtype=torch.bool)


define_chunked(
    "top1_hits",
    "(Tensor q, Tensor positive, Tensor keys, Tensor? row_ids, Tensor? key_ids, Tensor? scale,"
    " Tensor? bias, bool in_batch) -> Tensor",
    _top1_hits,
    _fake,
)
