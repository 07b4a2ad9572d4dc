"""How large errors may be, from the formats alone.

An operator may round its matrix operands once to the input dtype and accumulates in float32 (or
float64 for float64). From that follow the error of one logit, the relative error of one
probability, and the error of each gradient as a share of the terms that it sums, before they
cancel.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity import reference

# Unit roundoff of a matrix operand. float32 splits: "high" keeps two bfloat16 parts, "medium" one.
_FLOAT32_OPERAND = {"highest": 0.0, "high": 2.0**-16, "medium": 2.0**-8}
_STEPS = 16  # roundings outside the sums: scale, exp, log, subtractions


def operand_roundoff(dtype: torch.dtype) -> float:
    if dtype is torch.float32:
        return _FLOAT32_OPERAND[torch.get_float32_matmul_precision()]
    return 0.0 if dtype is torch.float64 else torch.finfo(dtype).eps / 2


def sum_error(dtype: torch.dtype, *lengths: int) -> float:
    """Relative error of sums in the accumulation dtype: the square root law, four sigma."""
    eps = torch.finfo(accumulate_dtype(dtype)).eps
    return eps * (_STEPS + 4 * sum(math.sqrt(length) for length in lengths))


def logit_error(dtype: torch.dtype, features: int, largest: float) -> float:
    """Error of a logit whose terms sum to at most `largest` in absolute value."""
    # Each operand is rounded; over many features the errors are independent.
    operands = 2 * operand_roundoff(dtype) * min(1.0, 4 / math.sqrt(features))
    return largest * (operands + sum_error(dtype, features))


def probability_error(dtype: torch.dtype, features: int, columns: int, largest: float) -> float:
    """Relative error of exp(logit - lse), of its product with an operand, summed over columns."""
    exponent = 2 * logit_error(dtype, features, largest)
    return math.expm1(exponent) + 2 * operand_roundoff(dtype) + sum_error(dtype, features, columns)


def stored(tolerance: Tensor, magnitude: Tensor, dtype: torch.dtype) -> Tensor:
    """The tolerance once a result of this magnitude has been rounded to `dtype`."""
    info = torch.finfo(dtype)
    return tolerance + info.eps * magnitude + info.tiny * info.eps


def probabilities(dtype: torch.dtype, logits: Tensor) -> Tensor:
    """Row softmax, zero in a row without a finite logit.

    Plus what makes room for one that underflows: a rounding error of it is the smallest normal.
    """
    info = torch.finfo(accumulate_dtype(dtype))
    return torch.softmax(logits, 1).nan_to_num(0.0) + info.tiny / info.eps


def engine(
    dtype: torch.dtype,
    upstream: Tensor,
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: tuple[int, ...],
) -> tuple[Tensor, dict[str, Tensor]]:
    """Tolerances of lse [M] and of the gradients of sum_i upstream_i * lse_i. All float64."""
    keys = q if k is None else k
    logits = reference.logits(q, k, scale=scale, bias=bias, exclude=exclude)
    p = upstream.abs()[:, None] * probabilities(dtype, logits)
    s = scale.abs()
    largest = float(s * q.norm(dim=1).max() * keys.norm(dim=1).max())
    if bias is not None:
        largest += float(bias.abs().max())
    rows, columns, features = *logits.shape, q.shape[1]
    lse = 2 * logit_error(dtype, features, largest) + sum_error(dtype, columns) * (
        1 + logits.logsumexp(1).nan_to_num(0.0, 0.0, 0.0).abs()
    )
    error = probability_error(dtype, features, max(rows, columns), largest)
    acc = accumulate_dtype(dtype)
    terms = {"q": s * p @ keys.abs(), "k": s * p.T @ q.abs()}
    if k is None:
        terms["q"] = terms["q"] + terms["k"]
    tolerances = {name: stored(error * term, term, dtype) for name, term in terms.items()}
    inner = (p * (q.abs() @ keys.abs().T)).sum()
    tolerances["scale"] = stored(error * inner, inner, acc)
    tolerances["bias"] = stored(error * p.sum(0), p.sum(0), acc)
    return lse, tolerances


def nt_xent(
    dtype: torch.dtype,
    upstream: Tensor,
    z1: Tensor,
    z2: Tensor,
    temperature: Tensor,
    normalize: bool,
    decoupled: bool,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Tolerances of the loss rows [2N] and of the gradients of sum_i upstream_i * loss_i."""
    n = z1.shape[0]
    x = torch.cat([z1, z2])
    norm = x.norm(dim=1, keepdim=True).clamp_min(1e-12) if normalize else torch.ones_like(x[:, :1])
    z = x / norm
    scale = 1 / temperature.reshape(())
    logits = reference.logits(z, scale=scale, exclude=(0, n) if decoupled else (0,))
    p = upstream.abs()[:, None] * (probabilities(dtype, logits) + torch.eye(2 * n).roll(n, 0))
    largest = float(scale * z.norm(dim=1).max() ** 2)
    features = z.shape[1]
    rows = 3 * logit_error(dtype, features, largest) + sum_error(dtype, 2 * n) * (
        1 + logits.logsumexp(1).nan_to_num(0.0, 0.0, 0.0).abs()
    )
    error = probability_error(dtype, features, 2 * n, largest)
    dz = scale * (p + p.T) @ z.abs()
    dx = dz
    if normalize:
        dx = (dz + z.abs() * (z.abs() * dz).sum(1, keepdim=True)) / norm
    dscale = (p * (z.abs() @ z.abs().T)).sum()
    dtemperature = dscale * scale**2
    dx_tolerance = stored(error * dx, dx, dtype)
    tolerances = {
        "z1": dx_tolerance[:n],
        "z2": dx_tolerance[n:],
        "temperature": stored(error * dtemperature, dtemperature, accumulate_dtype(dtype)),
    }
    return rows, tolerances
