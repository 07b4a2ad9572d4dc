"""`soft_target_terms`: what a cross entropy with class probabilities needs of each row.

Plain PyTorch on every device: such targets are a stored [M, n] matrix, so memory is not the point.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, define_chunked, second_order
from sslkernels.similarity import chunked_soft_targets, reference


class SoftTargetTerms(NamedTuple):
    """Five vectors [M]. The cross entropy of a row is `lse * mass - expected`."""

    lse: Tensor
    expected: Tensor
    mass: Tensor
    likeliest: Tensor
    largest: Tensor


def soft_target_terms(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    *,
    bias: Tensor | None = None,
    column_weight: Tensor | None = None,
    smoothing: float = 0.0,
    softcap: float | None = None,
) -> SoftTargetTerms:
    """Row-wise terms of the implicit logits `s_ij = cap(<q_i, k_j> + bias_j)`, never stored.

    With `w_ij = column_weight_j * ((1 - smoothing) * target_ij + smoothing / n)`. Differentiable
    once in q, k, target and bias. Arguments are not checked here.

    Args:
        q, k, bias, column_weight, softcap: as for `logit_terms`.
        target: [M, n] floating.
        smoothing: the share of the uniform distribution.

    Returns:
        SoftTargetTerms in the accumulation dtype: `lse_i = log sum_j exp(s_ij)`,
        `expected_i = sum_j w_ij s_ij`, `mass_i = sum_j w_ij`, and without a gradient the logit
        where target_i is largest, and `largest_i = max_j s_ij`.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("soft_target_terms", q)
    dtype = accumulate_dtype(q.dtype)
    bias = None if bias is None else bias.to(dtype)
    column_weight = None if column_weight is None else column_weight.to(dtype)
    settings = (bias, column_weight, float(smoothing), float(softcap or 0.0))
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            dense = reference.soft_target_terms(
                q.to(dtype), k.to(dtype), target.to(dtype), *settings
            )
        return SoftTargetTerms(*dense)
    return SoftTargetTerms(*apply(_SoftTargetTerms, q, k, target, *settings))


class _SoftTargetTerms(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, target, bias, column_weight, smoothing, softcap):
        forward = torch.ops.sslkernels_chunked.soft_target_terms_forward.default
        return forward(q, k, target, bias, column_weight, smoothing, softcap)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, target, bias, column_weight, *ctx.settings = inputs
        lse, _, _, likeliest, largest = output
        ctx.mark_non_differentiable(likeliest, largest)
        ctx.save_for_backward(lse, q, k, target, bias, column_weight)

    @staticmethod
    def backward(ctx, *grads):
        saved = ctx.saved_tensors
        target_grad, with_bias = ctx.needs_input_grad[2], saved[4] is not None
        dq, dk, dbias, dtarget = apply_in_backward(
            _SoftTargetTermsBackward, *grads[:3], *saved, *ctx.settings, target_grad
        )
        dtarget = dtarget if target_grad else None
        return dq, dk, dtarget, dbias if with_bias else None, None, None, None


class _SoftTargetTermsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args):
        return torch.ops.sslkernels_chunked.soft_target_terms_backward.default(*args)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("soft_target_terms")


def _fake_forward(q, k, target, bias, column_weight, smoothing, softcap):
    dtype = accumulate_dtype(q.dtype)
    return tuple(q.new_empty(q.shape[0], dtype=dtype) for _ in range(5))


def _fake_backward(
    grad_lse, grad_expected, grad_mass, lse, q, k, target, bias, weight, smoothing, cap, target_grad
):
    dbias = q.new_empty(0 if bias is None else k.shape[0], dtype=lse.dtype)
    dtarget = torch.empty_like(target) if target_grad else target.new_empty(0, 0)
    return torch.empty_like(q), torch.empty_like(k), dbias, dtarget


define_chunked(
    "soft_target_terms_forward",
    "(Tensor q, Tensor k, Tensor target, Tensor? bias, Tensor? column_weight, float smoothing,"
    " float softcap) -> (Tensor lse, Tensor expected, Tensor mass, Tensor likeliest,"
    " Tensor largest)",
    chunked_soft_targets.soft_target_terms_forward,
    _fake_forward,
)
define_chunked(
    "soft_target_terms_backward",
    "(Tensor grad_lse, Tensor grad_expected, Tensor grad_mass, Tensor lse, Tensor q, Tensor k,"
    " Tensor target, Tensor? bias, Tensor? column_weight, float smoothing, float softcap,"
    " bool target_grad) -> (Tensor dq, Tensor dk, Tensor dbias, Tensor dtarget)",
    chunked_soft_targets.soft_target_terms_backward,
    _fake_backward,
)
backends.add("soft_target_terms", lambda: None)
