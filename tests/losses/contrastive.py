"""How large errors of a contrastive head may be, from the formats alone: see tests/rounding.py."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity import reference
from tests import rounding


def draw_views(dtype, names, seed, rows, features):
    """Matrices [rows, features] whose rows have norms of order one."""
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randn(len(names), rows, features, generator=generator) / features**0.5
    return {name: x.to(dtype) for name, x in zip(names, drawn, strict=True)}


def unit(x: Tensor, normalize: bool) -> tuple[Tensor, Tensor]:
    """Rows over their norms, and the norms."""
    norm = x.norm(dim=1, keepdim=True).clamp_min(1e-12) if normalize else torch.ones_like(x[:, :1])
    return x / norm, norm


def logit_error(dtype, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None = None) -> Tensor:
    largest = float(scale.abs() * q.norm(dim=1).max() * k.norm(dim=1).max())
    largest += 0.0 if bias is None else float(bias.abs().max())
    return torch.tensor(rounding.logit_error(dtype, q.shape[1], largest), dtype=torch.float64)


def softmax_rows(
    dtype: torch.dtype,
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    linear: Tensor,
    *,
    allowed: Tensor | None = None,
    bias: Tensor | None = None,
    normalize: bool = True,
) -> tuple[Tensor, dict[str, Tensor], Tensor]:
    """For `loss_i = lse_i - sum_j linear_ij s_ij`, the lse over what is allowed.

    Tolerances of the rows, of the gradients of sum_i upstream_i * loss_i under the names q, k,
    scale and bias, and the absolute terms [M, n] of the gradient of each logit.
    """
    zq, zk = unit(q, normalize)[0], unit(k, normalize)[0]
    s = reference.logits(zq, zk, scale=scale, bias=bias)
    logit = logit_error(dtype, zq, zk, scale, bias)
    linear_part = linear.sum(1) * logit + rounding.sum_error(dtype, k.shape[0]) * (
        linear * s.abs()
    ).sum(1)
    s = s if allowed is None else s.masked_fill(~allowed, float("-inf"))
    rows = rounding._lse_error(dtype, s, logit) + linear_part
    terms = upstream.abs()[:, None] * (rounding.probabilities(dtype, s) + linear)
    return rows, gradients(dtype, terms, q, k, scale, bias, normalize), terms


def gradients(
    dtype: torch.dtype,
    terms: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    normalize: bool,
) -> dict[str, Tensor]:
    """Tolerances of the gradients of two-tower logits, normalisation included."""
    (zq, q_norm), (zk, k_norm) = unit(q, normalize), unit(k, normalize)
    logit = logit_error(dtype, zq, zk, scale, bias)
    out = rounding._gradients(dtype, terms, zq, zk, scale, logit, 0.0)
    magnitudes = {"q": scale * terms @ zk.abs(), "k": scale * terms.T @ zq.abs()}
    for name, z, norm in (("q", zq, q_norm), ("k", zk, k_norm)):
        # The share of each operator is stored before they are summed.
        tolerance = rounding.stored(out[name], magnitudes[name], dtype)
        if normalize:
            tolerance = through_normalize(tolerance, z, norm)
            dx = through_normalize(magnitudes[name], z, norm)
            tolerance = rounding.stored(tolerance, dx, dtype)
        out[name] = tolerance
    return out


def through_normalize(dz: Tensor, z: Tensor, norm: Tensor) -> Tensor:
    """Absolute terms of the gradient of x, z = x / norm, from those of the gradient of z."""
    return (dz + z.abs() * (z.abs() * dz).sum(1, keepdim=True)) / norm


def reduced(
    dtype: torch.dtype, rows: Tensor, exact_rows: Tensor, reduction: str, count: float
) -> Tensor:
    """The tolerance of the loss from that of its rows; `count` rows are averaged."""
    if reduction == "none":
        return rows
    total = rows.sum() + rounding.sum_error(dtype, len(rows)) * exact_rows.abs().sum()
    return total / (count if reduction == "mean" else 1)


def of_temperature(tolerance: Tensor, magnitude: Tensor, scale: Tensor, dtype) -> Tensor:
    """What a tolerance of the scale's gradient means for the temperature, its inverse."""
    return rounding.stored(tolerance * scale**2, magnitude * scale**2, accumulate_dtype(dtype))


def reweighted_rows(
    dtype: torch.dtype,
    upstream: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    positive: Tensor,
    negative: Tensor,
    beta: float,
    tau_plus: float,
    normalize: bool = True,
) -> tuple[Tensor, dict[str, Tensor]]:
    """Tolerances of the rows of `reweighted.reference_rows`, and of their gradients.

    `positive` and `negative` [M, n] say which logits are which. A row is a function of three
    numbers, two log-sum-exps and a positive logit: what their errors mean for it and for its
    slopes is seen at the corners of the box that they may be in.
    """
    (zq, q_norm), (zk, k_norm) = unit(q, normalize), unit(k, normalize)
    s = reference.logits(zq, zk, scale=scale)
    logit = logit_error(dtype, zq, zk, scale)
    count = negative.sum(1)
    factors = (1.0 + beta, beta, 1.0)
    kept = [s.masked_fill(~negative, float("-inf")) * f if f else s * 0 for f in factors[:2]]
    numbers = [x.logsumexp(1) for x in kept] + [(s * positive).sum(1)]
    size = 1 + count.log() + sum(x.abs() for x in numbers)
    errors = [
        2 * f * logit + rounding.sum_error(dtype, k.shape[0]) * size + 0 * s[:, 0] for f in factors
    ]
    values, slopes = [], []
    for signs in [(0, 0, 0), *itertools.product((-1, 1), repeat=3)]:
        at = [x + sign * e for x, sign, e in zip(numbers, signs, errors, strict=True)]
        at = [x.detach().requires_grad_() for x in (*at, scale.expand(len(q)))]
        value = _reweighted(*at, count, beta, tau_plus)
        found = torch.autograd.grad(value.sum(), at, allow_unused=True, materialize_grads=True)
        values.append(value.detach())
        slopes.append(torch.stack(found))
    value, slope = torch.stack(values), torch.stack(slopes)  # [9, M], [9, 4, M]
    rows = (value - value[0]).abs().amax(0) + rounding.sum_error(dtype) * (1 + size)
    spread, slope = (slope - slope[0]).abs().amax(0), slope.abs().amax(0)
    slope_error = spread + rounding.sum_error(dtype) * slope

    shares = [rounding.probabilities(dtype, x) * negative for x in kept] + [positive.double()]
    inner = zq.abs() @ zk.abs().T
    total = {"q": 0.0, "k": 0.0, "scale": 0.0}
    magnitude = 0.0
    for f, share, c, error in zip(factors, shares, slope, slope_error, strict=False):
        terms = (upstream.abs() * c)[:, None] * share
        part = gradients(dtype, terms, q, k, f * scale, None, normalize)
        unsure = (upstream.abs() * error)[:, None] * share
        dq, dk = f * scale * unsure @ zk.abs(), f * scale * unsure.T @ zq.abs()
        if normalize:
            dq, dk = through_normalize(dq, zq, q_norm), through_normalize(dk, zk, k_norm)
        total["q"] = total["q"] + part["q"] + dq
        total["k"] = total["k"] + part["k"] + dk
        total["scale"] = total["scale"] + f * (part["scale"] + (unsure * inner).sum())
        magnitude = magnitude + f * (terms * inner).sum()
    total["scale"] = total["scale"] + (upstream.abs() * slope_error[3]).sum()
    magnitude = magnitude + (upstream.abs() * slope[3]).sum()
    total["temperature"] = of_temperature(total.pop("scale"), magnitude, scale, dtype)
    return rows, total


def _reweighted(
    weighted: Tensor,
    weights: Tensor,
    positive: Tensor,
    scale: Tensor,
    count: Tensor,
    beta: float,
    tau_plus: float,
) -> Tensor:
    total = count * (weighted - weights).exp() if beta else weighted.exp()
    rest = (total - tau_plus * count * positive.exp()) / (1.0 - tau_plus)
    least = count * (-scale).exp() if tau_plus else rest
    return torch.log1p(torch.maximum(rest, least) / positive.exp())
