"""The engine's operators on the Triton kernels: signatures and results of `chunked`.

What the kernels do not cover, more than two excluded columns in a row, takes the chunked path. Rows
whose length is no multiple of 16 are copied to such that are: the copy is nothing beside a product,
whose loads can then be vectors.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from sslkernels.similarity import chunked
from sslkernels.similarity.triton import configurations, forward, gradients, symmetric
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.gradients import Upstream

_MOST_EXCLUDED = 2
_ALIGNMENT = 16


def logsumexp_forward(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    precision: int,
) -> Tensor:
    """lse [M] in float32."""
    logits = _logits(q, k, scale, bias, exclude, precision)
    if logits is None:
        return chunked.logsumexp_forward(q, k, scale, bias, exclude, precision)
    if k is None and symmetric.covers(logits):
        return symmetric.row_logsumexp(logits)
    return forward.row_logsumexp(logits)


def logsumexp_backward(
    grad: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    with_dk: bool,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias of sum_i grad_i * lse_i; dk is empty where k is None or not asked."""
    logits = _logits(q, k, scale, bias, exclude, precision)
    if logits is None:
        return chunked.logsumexp_backward(grad, lse, q, k, scale, bias, exclude, with_dk, precision)
    found = None
    if k is None and symmetric.covers(logits):
        found = symmetric.gradients(logits, grad, lse)
    if found is None:
        found = gradients.gradients(
            logits, Upstream(grad), lse, symmetric=k is None, with_dk=with_dk
        )
    return _of_width(q.shape[1], *found)


def weighted_logsumexp_forward(
    q: Tensor,
    k: Tensor | None,
    row_weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """value, lse and the gradients of value."""
    lse = logsumexp_forward(q, k, scale, bias, exclude, precision)
    value = (row_weight * lse).sum()
    gradients = logsumexp_backward(row_weight, lse, q, k, scale, bias, exclude, True, precision)
    return value, lse, *gradients


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
    """The four terms [M] in float32."""
    logits = _counted_logits(q, k, target, scale, bias, softcap, precision)
    lse, target_logit, weighted_sum, largest = forward.row_terms(logits, target, column_weight)
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
    logits = _counted_logits(q, k, target, scale, bias, softcap, precision)
    upstream = Upstream(grad_lse, grad_target, grad_sum)
    found = gradients.gradients(logits, upstream, lse, target, column_weight, with_dk=with_dk)
    return _of_width(q.shape[1], *found)


def _logits(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    precision: int,
) -> Logits | None:
    """None where the kernels do not cover the call."""
    if len(exclude) > _MOST_EXCLUDED:
        return None
    setting = configurations.precision(q.dtype, precision)
    q = _aligned(q)
    k = q if k is None else _aligned(k)
    return Logits(q, k, scale, bias, tuple(exclude), precision=setting)


def _counted_logits(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    softcap: float,
    precision: int,
) -> Logits:
    """The logits of the rows that count: their numbers first in `index`, without a host sync."""
    in_range = ((target >= -1) & (target < k.shape[0])).all()
    torch.ops.aten._assert_async.msg(in_range, "logit_terms: a target is out of range")
    counts = target >= 0
    index = torch.nonzero_static(counts, size=q.shape[0], fill_value=0).squeeze(1)
    setting = configurations.precision(q.dtype, precision)
    q, k = _aligned(q), _aligned(k)
    return Logits(q, k, scale, bias, (), softcap, setting, index, counts.sum())


def _aligned(rows: Tensor) -> Tensor:
    """The rows with zeros behind them up to a multiple of 16 features."""
    missing = -rows.shape[1] % _ALIGNMENT
    return pad(rows, (0, missing)) if missing else rows


def _of_width(
    features: int, dq: Tensor, dk: Tensor, dscale: Tensor, dbias: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The gradients without the columns that `_aligned` added."""
    if dq.shape[1] != features:
        dq, dk = dq[:, :features].contiguous(), dk[:, :features].contiguous()
    return dq, dk, dscale, dbias
