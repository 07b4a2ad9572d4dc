"""`logsumexp_excluding` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity.chunked_terms import CountedLogits, LogitGradients


class _AllowedLogits(CountedLogits):
    """Tiles of logits that are -inf where row and key have the same id."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        row_ids: Tensor,
        key_ids: Tensor,
        counts: Tensor,
        scale: Tensor,
        bias: Tensor | None,
    ) -> None:
        super().__init__(q, k, counts, scale, bias)
        self.row_ids, self.key_ids = row_ids[self.counted], key_ids

    def tile(self, rows: slice, columns: slice) -> Tensor:
        same = self.row_ids[rows, None] == self.key_ids[columns]
        return super().tile(rows, columns).masked_fill_(same, float("-inf"))


def logsumexp_excluding_forward(
    q: Tensor,
    k: Tensor,
    row_ids: Tensor,
    key_ids: Tensor,
    counts: Tensor,
    scale: Tensor,
    bias: Tensor | None,
) -> Tensor:
    """lse [M] in the accumulation dtype, 0 in a row that does not count."""
    logits = _AllowedLogits(q, k, row_ids, key_ids, counts, scale, bias)
    lse = logits.q.new_zeros(q.shape[0])
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            block = lse.new_full((rows.stop - rows.start,), float("-inf"))
            for columns in logits.column_slices:
                block = torch.logaddexp(block, logits.tile(rows, columns).logsumexp(1))
            lse[logits.counted[rows]] = block
    return lse


def logsumexp_excluding_backward(
    grad: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    row_ids: Tensor,
    key_ids: Tensor,
    counts: Tensor,
    scale: Tensor,
    bias: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias of sum_i grad_i * lse_i."""
    logits = _AllowedLogits(q, k, row_ids, key_ids, counts, scale, bias)
    gradients = LogitGradients(logits.q, logits.k, with_bias=bias is not None)
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            at = logits.counted[rows]
            # A row without a key has lse -inf: exp(-inf - 0) is the zero that it wants.
            row_lse = lse[at].masked_fill(lse[at] == float("-inf"), 0.0)[:, None]
            for columns in logits.column_slices:
                tile = logits.tile(rows, columns).sub_(row_lse).exp_().mul_(grad[at, None])
                gradients.add(tile, rows, columns)
    return gradients.finish(q, logits.counted, logits.scale)
