"""`soft_target_terms` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity.chunked_terms import CountedLogits, LogitGradients, targets_within


class _SoftTargets:
    """Tiles of `column_weight_j * smoothed target_ij`, in the accumulation dtype."""

    def __init__(
        self, target: Tensor, column_weight: Tensor | None, smoothing: float, dtype: torch.dtype
    ) -> None:
        self.target, self.column_weight, self.dtype = target, column_weight, dtype
        self.keep, self.uniform = 1.0 - smoothing, smoothing / target.shape[1]

    def tile(self, rows: slice, columns: slice) -> Tensor:
        tile = self.target[rows, columns].to(self.dtype, copy=True)
        tile.mul_(self.keep).add_(self.uniform)
        return self.weighted(tile, columns)

    def weighted(self, tile: Tensor, columns: slice) -> Tensor:
        return tile if self.column_weight is None else tile.mul_(self.column_weight[columns])


def _all_logits(q: Tensor, k: Tensor, bias: Tensor | None, softcap: float) -> CountedLogits:
    counts = torch.ones(q.shape[0], dtype=torch.bool, device=q.device)
    return CountedLogits(q, k, counts, q.new_ones(()), bias, softcap)


def soft_target_terms_forward(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    bias: Tensor | None,
    column_weight: Tensor | None,
    smoothing: float,
    softcap: float,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """lse, expected logit, mass, logit of the likeliest class, largest logit: [M] each."""
    likeliest_class = target.argmax(1)
    logits = _all_logits(q, k, bias, softcap)
    soft = _SoftTargets(target, column_weight, smoothing, logits.q.dtype)
    out = logits.q.new_zeros(5, q.shape[0])
    out[0].fill_(float("-inf"))
    out[4].fill_(float("-inf"))
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            lse, expected, mass, likeliest, largest = out[:, rows]
            for columns in logits.column_slices:
                tile, weight = logits.tile(rows, columns), soft.tile(rows, columns)
                lse.copy_(torch.logaddexp(lse, tile.logsumexp(1)))
                largest.copy_(torch.maximum(largest, tile.amax(1)))
                mass += weight.sum(1)
                row, column = targets_within(likeliest_class[rows], columns)
                likeliest[row] = tile[row, column]
                expected += weight.mul_(tile).sum(1)
    lse, expected, mass, likeliest, largest = (x.clone() for x in out)
    return lse, expected, mass, likeliest, largest


def soft_target_terms_backward(
    grad_lse: Tensor,
    grad_expected: Tensor,
    grad_mass: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    target: Tensor,
    bias: Tensor | None,
    column_weight: Tensor | None,
    smoothing: float,
    softcap: float,
    target_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dbias, and the target's gradient: [0, 0] unless it is wanted."""
    logits = _all_logits(q, k, bias, softcap)
    soft = _SoftTargets(target, column_weight, smoothing, logits.q.dtype)
    gradients = LogitGradients(logits.q, logits.k, with_bias=bias is not None)
    dtarget = torch.empty_like(target) if target_grad else target.new_empty(0, 0)
    with torch.autocast(q.device.type, enabled=False):
        for rows in logits.row_slices:
            row_lse = lse[rows].masked_fill(lse[rows] == float("-inf"), 0.0)[:, None]
            for columns in logits.column_slices:
                tile = logits.tile(rows, columns)
                if target_grad:
                    slope = (tile * grad_expected[rows, None]).add_(grad_mass[rows, None])
                    dtarget[rows, columns] = soft.weighted(slope.mul_(soft.keep), columns)
                slope = 1.0 - (tile / softcap).square_() if softcap else None
                tile.sub_(row_lse).exp_().mul_(grad_lse[rows, None])
                tile.addcmul_(soft.tile(rows, columns), grad_expected[rows, None])
                if slope is not None:
                    tile *= slope
                gradients.add(tile, rows, columns)
    dq, dk, _, dbias = gradients.finish(q, logits.counted, logits.scale)
    return dq, dk, dbias, dtarget
