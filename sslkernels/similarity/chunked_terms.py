"""`logit_terms` in plain PyTorch and bounded memory: any device, the portable fallback.

Same signatures and results as the C++ operators. Rows that do not count are dropped before any
product; the logits of the others exist one tile of `chunked.tiles` at a time.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity import chunked


class CountedLogits:
    """Tiles of the logits of the rows that count, in the accumulation dtype."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor,
        counts: Tensor,
        scale: Tensor,
        bias: Tensor | None,
        softcap: float = 0.0,
    ) -> None:
        self.counted = counts.nonzero().squeeze(1)
        self.q, self.k, self.scale, self.bias = chunked.wide(q[self.counted], k, scale, bias)
        self.softcap = softcap
        self.row_slices, self.column_slices = chunked.tiles(
            self.counted.shape[0], k.shape[0], self.q.dtype
        )

    def tile(self, rows: slice, columns: slice) -> Tensor:
        tile = chunked.logits_tile(self.q, self.k, self.scale, self.bias, (), rows, columns)
        if self.softcap:
            tile.div_(self.softcap).tanh_().mul_(self.softcap)
        return tile


def targets_within(target: Tensor, columns: slice) -> tuple[Tensor, Tensor]:
    """The elements (row, column) of a tile that are a target; `target` is that of its rows."""
    column = target - columns.start
    row = ((column >= 0) & (column < columns.stop - columns.start)).nonzero().squeeze(1)
    return row, column[row]


def _counted_logits(
    q: Tensor, k: Tensor, target: Tensor, scale: Tensor, bias: Tensor | None, softcap: float
) -> CountedLogits:
    in_range = ((target >= -1) & (target < k.shape[0])).all()
    # On a GPU this raises later, without waiting for it here.
    torch.ops.aten._assert_async.msg(in_range, "logit_terms: a target is out of range")
    return CountedLogits(q, k, target >= 0, scale, bias, softcap)


def logit_terms_forward(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    column_weight: Tensor | None,
    softcap: float,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The four terms [M] in the accumulation dtype. `precision` is torch's own setting here."""
    logits = _counted_logits(q, k, target, scale, bias, softcap)
    out = logits.q.new_zeros(4, q.shape[0])
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            at = logits.counted[rows]
            lse, target_logit, weighted_sum, largest = block = logits.q.new_zeros(
                4, rows.stop - rows.start
            )
            lse.fill_(float("-inf"))
            largest.fill_(float("-inf"))
            for columns in logits.column_slices:
                tile = logits.tile(rows, columns)
                torch.logaddexp(lse, tile.logsumexp(1), out=lse)
                torch.maximum(largest, tile.amax(1), out=largest)
                if column_weight is not None:
                    weighted_sum += tile @ column_weight[columns]
                row, column = targets_within(target[at], columns)
                target_logit[row] = tile[row, column]
            out[:, at] = block
    lse, target_logit, weighted_sum, largest = out
    return lse.clone(), target_logit.clone(), weighted_sum.clone(), largest.clone()


def logit_terms_backward(
    grad_lse: Tensor,
    grad_target: Tensor,
    grad_sum: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    column_weight: Tensor | None,
    softcap: float,
    with_dk: bool,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias of the terms' sum, weighted by the three upstream gradients."""
    logits = _counted_logits(q, k, target, scale, bias, softcap)
    gradients = LogitGradients(logits.q, logits.k, bias is not None, with_dk)
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            at = logits.counted[rows]
            # A row whose every logit is -inf: exp(-inf - 0) is the zero that it wants.
            row_lse = lse[at].masked_fill(lse[at] == float("-inf"), 0.0)[:, None]
            for columns in logits.column_slices:
                tile = logits.tile(rows, columns)
                slope = 1.0 - (tile / softcap).square_() if softcap else None
                tile.sub_(row_lse).exp_().mul_(grad_lse[at, None])
                if column_weight is not None:
                    tile.addr_(grad_sum[at], column_weight[columns])
                row, column = targets_within(target[at], columns)
                tile[row, column] += grad_target[at][row]
                if slope is not None:
                    tile *= slope
                gradients.add(tile, rows, columns)
    return gradients.finish(q, logits.counted, logits.scale)


class LogitGradients:
    """Sums what the gradients of the logits' tiles mean for q, k, scale and bias."""

    def __init__(self, q: Tensor, k: Tensor, with_bias: bool, with_dk: bool = True) -> None:
        self.q, self.k, self.with_bias, self.with_dk = q, k, with_bias, with_dk
        # Of <q_i, k_j>, that is before the factor `scale`.
        self.dq = torch.zeros_like(q)
        self.dk = torch.zeros_like(k) if with_dk else k.new_zeros(0, k.shape[1])
        self.dbias = q.new_zeros(k.shape[0] if with_bias else 0)

    def add(self, gradient: Tensor, rows: slice, columns: slice) -> None:
        self.dq[rows].addmm_(gradient, self.k[columns])
        if self.with_dk:
            self.dk[columns].addmm_(gradient.T, self.q[rows])
        if self.with_bias:
            self.dbias[columns] += gradient.sum(0)

    def finish(
        self, q: Tensor, counted: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """dq, dk, dscale, dbias; dq has the rows and the dtype of `q`, zero where none counts."""
        dscale = (self.dq * self.q).sum()
        dq = torch.zeros_like(q)
        dq[counted] = (self.dq * scale).to(q.dtype)
        return dq, (self.dk * scale).to(q.dtype), dscale, self.dbias
