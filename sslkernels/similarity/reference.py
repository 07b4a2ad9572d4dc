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


def cap(logits: Tensor, softcap: float) -> Tensor:
    """softcap * tanh(logits / softcap); a softcap of 0.0 means none."""
    return softcap * torch.tanh(logits / softcap) if softcap else logits


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
    s = cap(s, softcap)
    weighted_sum = s.new_zeros(s.shape[0]) if column_weight is None else s @ column_weight
    target_logit = s.gather(1, target.clamp_min(0)[:, None]).squeeze(1)
    terms = (s.logsumexp(1), target_logit, weighted_sum, s.detach().amax(1))
    lse, target_logit, weighted_sum, largest = (x.masked_fill(~counted, 0.0) for x in terms)
    return lse, target_logit, weighted_sum, largest


def pair_terms(
    q: Tensor, k: Tensor, scale: float | Tensor = 1.0, first: int = 0
) -> tuple[Tensor, Tensor, Tensor]:
    """The lse of rows [M] and of columns [n], and the logits of the pairs (i, first + i) [M]."""
    s = logits(q, k, scale=scale)
    return s.logsumexp(1), s.logsumexp(0), s.diagonal(first)


def soft_target_terms(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    bias: Tensor | None = None,
    column_weight: Tensor | None = None,
    smoothing: float = 0.0,
    softcap: float = 0.0,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """lse, expected logit, mass, logit of the likeliest class and largest logit [M]."""
    s = cap(logits(q, k, bias=bias), softcap)
    weight = (1.0 - smoothing) * target + smoothing / target.shape[1]
    weight = weight if column_weight is None else weight * column_weight
    likeliest = s.detach().gather(1, target.argmax(1, keepdim=True)).squeeze(1)
    expected = (weight * s).sum(1)
    return s.logsumexp(1), expected, weight.sum(1), likeliest, s.detach().amax(1)


def row_divergence(
    q: Tensor,
    k: Tensor,
    bias: Tensor | None,
    teacher_q: Tensor,
    teacher_k: Tensor,
    teacher_bias: Tensor | None,
    counts: Tensor,
    temperature: float,
) -> Tensor:
    """KL(teacher || student) [M] of the softmax of the logits over the temperature."""
    # Before the product, as in `logit_terms`.
    q, teacher_q = (x.masked_fill(~counts[:, None], 0.0) for x in (q, teacher_q))
    student = (logits(q, k, bias=bias) / temperature).log_softmax(1)
    teacher = (logits(teacher_q, teacher_k, bias=teacher_bias) / temperature).log_softmax(1)
    teacher = teacher.to(student.dtype)
    p = teacher.exp()
    # The limit of p log p, where it is inf - inf or 0 * inf.
    divergence = (p * (teacher - student)).masked_fill(p == 0.0, 0.0).sum(1)
    return divergence.masked_fill(~counts, 0.0)


def logsumexp_excluding(
    q: Tensor,
    k: Tensor,
    row_ids: Tensor,
    key_ids: Tensor,
    counts: Tensor,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    """Row-wise log-sum-exp [M] of the logits whose key has another id than the row.

    Zeros, with zero gradients, for a row that does not count.
    """
    # Before the product, as in `logit_terms`.
    s = logits(q.masked_fill(~counts[:, None], 0.0), k, scale=scale, bias=bias)
    same = row_ids[:, None] == key_ids
    none_left = same.all(1)  # apart: softmax over nothing is NaN
    s = s.masked_fill(same & ~none_left[:, None], float("-inf"))
    return s.logsumexp(1).masked_fill(none_left, float("-inf")).masked_fill(~counts, 0.0)


def sigmoid_loss(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor = 1.0,
    bias: float | Tensor = 0.0,
    first: int = 0,
    reduction: str = "sum",
) -> Tensor:
    """-sum_ij log sigmoid(y_ij s_ij), y_ij 1 for j = i + first and else -1; "mean": over rows."""
    s = logits(q, k, scale=scale) + bias
    row = torch.arange(s.shape[0], device=s.device)
    pair = row[:, None] + first == torch.arange(s.shape[1], device=s.device)
    sign = 2.0 * pair.to(s.dtype) - 1.0
    total = -torch.nn.functional.logsigmoid(sign * s).sum()
    return total / s.shape[0] if reduction == "mean" else total
