"""`logit_terms`: what a cross entropy over columns needs of each row, in one pass.

The same layers as the engine's other operators: see op.py.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import (
    NAMESPACES,
    apply,
    apply_in_backward,
    complete_native,
    define_chunked,
    define_triton,
    second_order,
)
from sslkernels.similarity import chunked_terms, cuda, reference
from sslkernels.similarity.op import scale_tensor


class LogitTerms(NamedTuple):
    """Four vectors [M]; all zero in a row that does not count."""

    lse: Tensor
    target_logit: Tensor
    weighted_sum: Tensor
    largest: Tensor


def logit_terms(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    column_weight: Tensor | None = None,
    softcap: float | None = None,
) -> LogitTerms:
    """Row-wise terms of the implicit logits `s_ij = cap(scale * <q_i, k_j> + bias_j)`.

    `cap(x) = softcap * tanh(x / softcap)`, or x without softcap. The [M, n] logits are never
    stored. A row with target -1 does not count: its terms are 0, its gradients exactly 0, and
    nothing is computed for it. Differentiable once in q, k, scale and bias, through every term but
    `largest`.

    Args:
        q: [M, D], float64, float32, bfloat16 or float16; float32 is cast under autocast.
        k: [n, D] with the dtype and device of q.
        target: [M] integers, a column for each row, or -1.
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [n] floating, added to column j of every row.
        column_weight: [n] floating, without a gradient.
        softcap: the bound of the logits' absolute value.

    Returns:
        LogitTerms, in float64 for float64 inputs, else float32, with
        `lse_i = log sum_j exp(s_ij)`, `target_logit_i = s_i,target_i`,
        `weighted_sum_i = sum_j column_weight_j s_ij` (0 without column_weight), and
        `largest_i = max_j s_ij`.

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype; q and k of different
            dtype; a softcap that is not a number.
        ValueError: wrong shapes or devices, no features, no columns; a target out of range (looked
            at here on the CPU outside torch.compile; elsewhere the kernel notices, with a
            RuntimeError); a column_weight that requires a gradient; a softcap that is not positive
            and finite.
        RuntimeError: a second derivative was asked for.

    Papers: softcap: Gemma 2, arXiv 2408.00118.
    """
    checks.matrix("logit_terms", "q", q)
    checks.keys("logit_terms", "k", k, q, "q")
    checks.integers("logit_terms", "target", target, (q.shape[0],), q, "q")
    checks.indices("logit_terms", "target", target, k.shape[0], ignored=-1)
    q, k = checks.autocast(q), checks.autocast(k)
    checks.same_dtype("logit_terms", "k", k, "q", q)
    if isinstance(scale, Tensor):
        checks.scalar_tensor("logit_terms", "scale", scale, q, "q")
    elif not isinstance(scale, (int, float)):
        raise TypeError(
            f"logit_terms: scale must be a float or a tensor, got {type(scale).__name__}"
        )
    if bias is not None:
        checks.vector("logit_terms", "bias", bias, k.shape[0], q, "q")
    if column_weight is not None:
        checks.constant_vector("logit_terms", "column_weight", column_weight, k.shape[0], q, "q")
    if softcap is not None:
        checks.positive_number("logit_terms", "softcap", softcap, q)
    return unchecked(q, k, target, scale, bias, column_weight, softcap)


def unchecked(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    column_weight: Tensor | None = None,
    softcap: float | None = None,
) -> LogitTerms:
    """`logit_terms` for a caller that has checked its arguments, and cast them for autocast."""
    name = backends.choose("logit_terms", q)
    dtype = accumulate_dtype(q.dtype)
    scale = scale_tensor(scale, q)
    bias = None if bias is None else bias.to(dtype).contiguous()
    if column_weight is not None:
        column_weight = column_weight.to(dtype).contiguous()
    cap = softcap or 0.0
    target = target.to(torch.int64).contiguous()
    if name == "reference":  # has no mixed precision of its own
        with torch.autocast(q.device.type, enabled=False):
            return LogitTerms(
                *reference.logit_terms(
                    q.to(dtype), k.to(dtype), target, scale, bias, column_weight, cap
                )
            )
    precision = backends.matmul_precision()
    q, k = q.contiguous(), k.contiguous()
    return LogitTerms(
        *apply(_LogitTerms, q, k, target, scale, bias, column_weight, float(cap), precision, name)
    )


class _LogitTerms(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, target, scale, bias, column_weight, softcap, precision, name):
        forward = NAMESPACES[name].logit_terms_forward.default
        return forward(q, k, target, scale, bias, column_weight, softcap, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, target, scale, bias, column_weight, *ctx.settings = inputs
        lse, _, _, largest = output
        ctx.mark_non_differentiable(largest)
        ctx.save_for_backward(lse, q, k, target, scale, bias, column_weight)

    @staticmethod
    def backward(ctx, *grads):
        saved = ctx.saved_tensors
        upstream = (grad.contiguous() for grad in grads[:3])
        softcap, *rest = ctx.settings
        with_dk = ctx.needs_input_grad[1]
        dq, dk, dscale, dbias = apply_in_backward(
            _LogitTermsBackward, *upstream, *saved, softcap, with_dk, *rest
        )
        bias = saved[5]
        dk = dk if with_dk else None
        dbias = None if bias is None else dbias
        return dq, dk, None, dscale, dbias, None, None, None, None


class _LogitTermsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad_lse, grad_target, grad_sum, lse, q, k, *rest):
        *rest, name = rest
        backward = NAMESPACES[name].logit_terms_backward.default
        return backward(grad_lse, grad_target, grad_sum, lse, q, k, *rest)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("logit_terms")


def _fake_logit_terms_forward(q, k, target, scale, bias, column_weight, softcap, precision):
    dtype = accumulate_dtype(q.dtype)
    return tuple(q.new_empty(q.shape[0], dtype=dtype) for _ in range(4))


def _fake_logit_terms_backward(
    grad_lse, grad_target, grad_sum, lse, q, k, target, scale, bias, weight, cap, with_dk, precision
):
    dk = torch.empty_like(k) if with_dk else k.new_empty(0, k.shape[1])
    dbias = q.new_empty(0 if bias is None else k.shape[0], dtype=lse.dtype)
    return torch.empty_like(q), dk, q.new_empty((), dtype=lse.dtype), dbias


define_chunked(
    "logit_terms_forward",
    "(Tensor q, Tensor k, Tensor target, Tensor scale, Tensor? bias, Tensor? column_weight,"
    " float softcap, int precision)"
    " -> (Tensor lse, Tensor target_logit, Tensor weighted_sum, Tensor largest)",
    chunked_terms.logit_terms_forward,
    _fake_logit_terms_forward,
)
define_chunked(
    "logit_terms_backward",
    "(Tensor grad_lse, Tensor grad_target, Tensor grad_sum, Tensor lse, Tensor q, Tensor k,"
    " Tensor target, Tensor scale, Tensor? bias, Tensor? column_weight, float softcap,"
    " bool with_dk, int precision) -> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)",
    chunked_terms.logit_terms_backward,
    _fake_logit_terms_backward,
)
backends.add(
    "logit_terms",
    lambda: complete_native(
        logit_terms_forward=_fake_logit_terms_forward,
        logit_terms_backward=_fake_logit_terms_backward,
    ),
)
backends.add_triton(
    ("logit_terms",),
    lambda: define_triton(
        "sslkernels.similarity.triton.operators",
        logit_terms_forward=_fake_logit_terms_forward,
        logit_terms_backward=_fake_logit_terms_backward,
    ),
)
backends.add_cuda("logit_terms", cuda.why_not)
