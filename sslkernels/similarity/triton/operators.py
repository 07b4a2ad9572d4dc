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
from sslkernels.similarity.chunked_sigmoid import gradient_dtype, row_weight
from sslkernels.similarity.triton import (
    configurations,
    fixed_keys,
    forward,
    gradients,
    pairs,
    sigmoid,
    symmetric,
    symmetric_gradients,
)
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.gradients import Upstream
from sslkernels.similarity.triton.pairs import PairGradients

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
        found = symmetric_gradients.gradients(logits, grad, lse)
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


def fixed_keys_forward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None, precision: int
) -> tuple[Tensor, Tensor]:
    """lse [M], and the keys that each row expects [M, D], in float32."""
    lse, mean_key = fixed_keys.expected_keys(_every_logit(q, k, scale, bias, precision))
    return lse, _narrowed(mean_key, q.shape[1])


def pair_terms_forward(
    q: Tensor, k: Tensor, scale: Tensor, first: int, precision: int
) -> tuple[Tensor, Tensor, Tensor]:
    """The lse of rows [M] and of columns [n], and the pairs' logits [M], in float32."""
    return pairs.pair_terms(_every_logit(q, k, scale, None, precision), first)


def pair_terms_backward(
    grad_row: Tensor,
    grad_column: Tensor,
    grad_pair: Tensor,
    row_lse: Tensor,
    column_lse: Tensor,
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    first: int,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dscale of the terms' sum, weighted by the three upstream gradients."""
    logits = _every_logit(q, k, scale, None, precision)
    upstream = PairGradients(grad_row, grad_column, grad_pair)
    dq, dk, dscale = pairs.gradients(logits, first, upstream, row_lse, column_lse)
    return _narrowed(dq, q.shape[1]), _narrowed(dk, q.shape[1]), dscale


def sigmoid_loss_forward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, reduction: str, precision: int
) -> Tensor:
    """The sum over all pairs, 0-dim, or its mean over rows, in float32."""
    logits = _every_logit(q, k, scale, None, precision)
    return sigmoid.loss_sum(logits, bias, first, row_weight(q, reduction))


def sigmoid_loss_forward_backward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor, first: int, reduction: str, precision: int
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The loss, then its gradients dq, dk, dscale, dbias."""
    logits = _every_logit(q, k, scale, None, precision)
    found = sigmoid.loss_and_gradients(
        logits, bias, first, row_weight(q, reduction), gradient_dtype(q.dtype)
    )
    value, dq, dk, dscale, dbias = found
    return value, _narrowed(dq, q.shape[1]), _narrowed(dk, q.shape[1]), dscale, dbias


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
    return _every_logit(q, k, scale, bias, precision, tuple(exclude))


def _every_logit(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    precision: int,
    exclude: tuple[int, ...] = (),
) -> Logits:
    setting = configurations.precision(q.dtype, precision)
    q = _aligned(q)
    k = q if k is None else _aligned(k)
    return Logits(q, k, scale, bias, exclude, precision=setting)


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
    return _narrowed(dq, features), _narrowed(dk, features), dscale, dbias


def _narrowed(rows: Tensor, features: int) -> Tensor:
    """The rows without what `_aligned` added."""
    return rows if rows.shape[1] == features else rows[:, :features].contiguous()
