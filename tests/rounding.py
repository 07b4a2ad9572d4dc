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


def logit_terms(
    dtype: torch.dtype,
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    column_weight: Tensor | None,
    softcap: float,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Tolerances of lse, target logit and weighted sum [3, M], and of their gradients."""
    q = q.masked_fill(target[:, None] < 0, 0.0)
    s, logit = _capped_logits(dtype, q, k, scale, bias, softcap)
    weight = torch.zeros_like(s[0]) if column_weight is None else column_weight.abs()
    tolerance = [
        _lse_error(dtype, s, logit),
        logit.expand(s.shape[0]),
        weight.sum() * logit + sum_error(dtype, s.shape[1]) * (weight * s.abs()).sum(1),
    ]
    one_hot = torch.zeros_like(s).scatter_(1, target.clamp_min(0)[:, None], 1.0)
    lse, target_logit, weighted = upstream.abs()[:, :, None]
    terms = lse * probabilities(dtype, s) + target_logit * one_hot + weighted * weight
    gradients = _gradients(dtype, terms * (target >= 0)[:, None], q, k, scale, logit, softcap)
    return torch.stack(tolerance) * (target >= 0) + torch.finfo(dtype).tiny, gradients


def cross_entropy(
    dtype: torch.dtype,
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    target: Tensor,
    z_loss: float = 0.0,
    softcap: float = 0.0,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Tolerances of `lse * sum(target) - sum(target * logit) + z_loss * lse^2` [M], and gradients.

    `target` [M, n] has class weights and smoothing in it, and is zero in a row that does not count.
    """
    counted = target.sum(1) != 0
    q, one = q.masked_fill(~counted[:, None], 0.0), torch.ones(())
    s, logit = _capped_logits(dtype, q, k, one, bias, softcap)
    lse, mass = s.logsumexp(1), target.sum(1)
    slope = mass + 2 * z_loss * lse.abs()
    tolerance = slope * _lse_error(dtype, s, logit) + mass * logit
    magnitude = (target * s.abs()).sum(1) + mass * lse.abs() + z_loss * lse**2
    tolerance = tolerance + sum_error(dtype, s.shape[1]) * magnitude
    terms = slope[:, None] * probabilities(dtype, s) + target
    terms = terms * (upstream.abs() * counted)[:, None]
    gradients = _gradients(dtype, terms, q, k, one, logit, softcap)
    error = logit + _lse_error(dtype, s, logit) + sum_error(dtype) * (s.abs().amax(1) + lse.abs())
    gradients["target"] = upstream.abs()[:, None] * error[:, None].expand_as(s)
    return tolerance * counted + torch.finfo(dtype).tiny, gradients


def _capped_logits(
    dtype: torch.dtype, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None, softcap: float
) -> tuple[Tensor, Tensor]:
    """The logits, and the error of one."""
    largest = float(scale.abs() * q.norm(dim=1).max() * k.norm(dim=1).max()) if len(q) else 0.0
    largest += 0.0 if bias is None else float(bias.abs().max())
    s = reference.cap(reference.logits(q, k, scale=scale, bias=bias), softcap)
    # The cap has no slope above one, and a few roundings of its own.
    logit = logit_error(dtype, q.shape[1], largest) + sum_error(dtype) * softcap
    return s, torch.tensor(logit, dtype=torch.float64)


def _lse_error(dtype: torch.dtype, logits: Tensor, logit: Tensor) -> Tensor:
    return 2 * logit + sum_error(dtype, logits.shape[1]) * (1 + logits.logsumexp(1).abs())


def _gradients(
    dtype: torch.dtype,
    terms: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    logit: Tensor,
    softcap: float,
) -> dict[str, Tensor]:
    """Tolerances where `terms` are the absolute terms of the gradient of each logit."""
    operand = 2 * operand_roundoff(dtype) + sum_error(dtype, q.shape[1], *terms.shape)
    error = math.expm1(2 * float(logit)) + operand
    if softcap:  # the slope 1 - tanh^2
        error += 2 * float(logit) / softcap + sum_error(dtype)
    acc = accumulate_dtype(dtype)
    dq, dk = scale.abs() * terms @ k.abs(), scale.abs() * terms.T @ q.abs()
    dscale = (terms * (q.abs() @ k.abs().T)).sum()
    return {
        "q": stored(error * dq, dq, dtype),
        "k": stored(error * dk, dk, dtype),
        "scale": stored(error * dscale, dscale, acc),
        "bias": stored(error * terms.sum(0), terms.sum(0), acc),
    }


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
