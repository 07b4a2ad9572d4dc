"""What every contrastive head does with rows: normalise, multiply, reduce."""

from __future__ import annotations

from torch import Tensor

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity.op import scale_tensor
from sslkernels.similarity.unit_rows import unit_rows

__all__ = ["inverse", "reduce", "row_dots", "unit_rows"]


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
