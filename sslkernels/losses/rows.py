"""What every contrastive head does with rows: normalise, multiply, reduce."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity.op import scale_tensor


def unit_rows(x: Tensor) -> Tensor:
    """Rows over their norms, in the accumulation dtype, then rounded once to the dtype of x.

    Rows are along the last dimension; a row of zeros stays one. The products that follow are those
    of the dtype of x.
    """
    with torch.autocast(x.device.type, enabled=False):
        return F.normalize(x.to(accumulate_dtype(x.dtype)), dim=-1).to(x.dtype)


def row_dots(a: Tensor, b: Tensor) -> Tensor:
    """`<a_i, b_i>` [N] in the accumulation dtype."""
    dtype = accumulate_dtype(a.dtype)
    return (a.to(dtype) * b.to(dtype)).sum(1)


def inverse(temperature: float | Tensor, like: Tensor) -> Tensor:
    """`1 / temperature` as the 0-dim tensor that the engine takes for a scale."""
    if isinstance(temperature, Tensor):
        return scale_tensor(temperature, like).reciprocal()
    return scale_tensor(1.0 / temperature, like)


def reduce(rows: Tensor, reduction: str) -> Tensor:
    """The mean, the sum, or the rows themselves."""
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.mean()
