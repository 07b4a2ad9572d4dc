"""The definition of the engine: dense, plain PyTorch, in the dtype of the inputs."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def logits(
    q: Tensor,
    k: Tensor | None = None,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """All logits [M, n_k]; -inf where column (i + offset) mod n_k is excluded for row i."""
    k = q if k is None else k
    out = q @ k.T * scale
    if bias is not None:
        out = out + bias
    rows = torch.arange(q.shape[0], device=q.device)[:, None]
    columns = torch.arange(k.shape[0], device=q.device)
    for offset in exclude:
        out = out.masked_fill((rows + offset) % k.shape[0] == columns, float("-inf"))
    return out


def logsumexp(
    q: Tensor,
    k: Tensor | None = None,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """Row-wise log-sum-exp [M] of the logits."""
    return logits(q, k, scale=scale, bias=bias, exclude=exclude).logsumexp(1)


def weighted_logsumexp(
    q: Tensor,
    k: Tensor | None,
    row_weight: Tensor,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """The scalar sum_i row_weight_i * lse_i."""
    return (row_weight * logsumexp(q, k, scale=scale, bias=bias, exclude=exclude)).sum()


def logit_terms(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    column_weight: Tensor | None = None,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """lse, target logit, weighted sum and largest logit [M] of the capped logits.

    Zeros, with zero gradients, for a row with target -1; a softcap of 0.0 means none.
    """
    counted = target >= 0
    # Before the product: what does not count must not spoil a gradient, even when it is NaN.
    s = logits(q.masked_fill(~counted[:, None], 0.0), k, scale=scale, bias=bias)
    if softcap:
        s = softcap * torch.tanh(s / softcap)
    weighted_sum = s.new_zeros(s.shape[0]) if column_weight is None else s @ column_weight
    target_logit = s.gather(1, target.clamp_min(0)[:, None]).squeeze(1)
    terms = (s.logsumexp(1), target_logit, weighted_sum, s.detach().amax(1))
    lse, target_logit, weighted_sum, largest = (x.masked_fill(~counted, 0.0) for x in terms)
    return lse, target_logit, weighted_sum, largest
