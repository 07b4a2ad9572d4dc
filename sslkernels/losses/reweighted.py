"""Debiased and hardness-weighted sums of negatives, from log-sum-exps of their logits.

With N negatives j of a row, their logits s_j and that of the positive s_+, scale = 1 / temperature:

    R = N sum_j exp((1 + beta) s_j) / sum_j exp(beta s_j)                  weighted; beta 0: the sum
    G = max((R - tau_plus N exp(s_+)) / (1 - tau_plus), N exp(-scale))     debiased
    loss = log(1 + G / exp(s_+))

beta s and (1 + beta) s are logits at another scale, so that log R is log N plus a difference of two
log-sum-exps of the engine, and no logit is stored.

Papers: debiased, arXiv 2007.00224; hard negatives, arXiv 2010.04592.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import checks


def check(op: str, beta: object, tau_plus: object) -> None:
    checks.number(op, "beta", beta, 0.0, math.inf)
    checks.fraction(op, "tau_plus", tau_plus)


def reweighted_rows(
    positive_logit: Tensor,
    lse: Callable[[Tensor], Tensor],
    count: Tensor,
    scale: Tensor,
    beta: float,
    tau_plus: float,
) -> Tensor:
    """The loss [M] of each row; 0, with zero gradients, in a row without negatives.

    Args:
        positive_logit: [M].
        lse: gives the log-sum-exp [M] over a row's negatives at a scale, -inf where it has none.
        count: [M] or 0-dim, how many negatives a row has, in the dtype of the logits.
        scale: 0-dim, `1 / temperature`.
    """
    if beta == 0.0 and tau_plus == 0.0:
        return against(lse(scale), positive_logit)
    # -inf would meet -inf in such a row; what stands here instead is not used.
    empty = (count == 0).expand_as(positive_logit)
    log_count = count.clamp_min(1).log()
    if beta == 0.0:
        total = lse(scale).masked_fill(empty, 0.0)
    else:
        weighted = lse((1.0 + beta) * scale).masked_fill(empty, 0.0)
        total = log_count + weighted - lse(beta * scale).masked_fill(empty, 0.0)
    if tau_plus:
        total = _debiased(total, positive_logit, log_count, scale, tau_plus)
    return against(total.masked_fill(empty, -math.inf), positive_logit)


def against(total: Tensor, positive_logit: Tensor) -> Tensor:
    """`log(1 + exp(total) / exp(positive))`, `total` the log of the sum over the negatives."""
    return -F.logsigmoid(positive_logit - total)


def _debiased(
    total: Tensor, positive_logit: Tensor, log_count: Tensor, scale: Tensor, tau_plus: float
) -> Tensor:
    """log G of log R."""
    floor = log_count - scale
    share = math.log(tau_plus) + log_count + positive_logit - total
    spent = share >= 0.0  # nothing is left; NaN goes the other way, and stays
    left = (-share.masked_fill(spent, -1.0).expm1()).log()
    corrected = torch.maximum(total + left - math.log1p(-tau_plus), floor)
    return torch.where(spent, floor, corrected)


def reference_rows(
    positive_logit: Tensor,
    logits: Tensor,
    scale: float | Tensor,
    beta: float,
    tau_plus: float,
) -> Tensor:
    """The definition, from all logits [M, n] of the negatives, -inf where a key is none.

    Each row has a negative.
    """
    n = (logits > -math.inf).sum(1).to(logits.dtype)
    positive, each = positive_logit.exp(), logits.exp()
    importance = (beta * logits).exp() if beta else torch.ones_like(each)
    total = n * (importance * each).sum(1) / importance.masked_fill(each == 0.0, 0.0).sum(1)
    rest = (total - tau_plus * n * positive) / (1.0 - tau_plus)
    least = n * torch.as_tensor(-scale, dtype=rest.dtype, device=rest.device).exp()
    return torch.log1p((torch.maximum(rest, least) if tau_plus else rest) / positive)
