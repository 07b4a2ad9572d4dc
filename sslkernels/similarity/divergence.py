"""`row_divergence`: KL divergence of two rows of logits, neither of which is stored.

Plain PyTorch on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, define_chunked, second_order
from sslkernels.similarity import chunked_divergence, reference


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
    """`KL(softmax(t_i) || softmax(s_i))` of the implicit logits s and t, for each row.

    With `s_ij = (<q_i, k_j> + bias_j) / temperature`, and t likewise of the teacher. Differentiable
    once in q, k and bias; the teacher has no gradient. A column where t is -inf adds nothing.
    Arguments are not checked here.

    Args:
        q, k, bias: [M, D], [n, D] and [n] or None.
        teacher_q, teacher_k, teacher_bias: [M, D'], [n, D'] and [n] or None.
        counts: [M] bool; nothing is computed for a row of False, and its result is 0.
        temperature: a positive float.

    Returns:
        [M] in the accumulation dtype of q.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    dtype = accumulate_dtype(q.dtype)
    teacher_dtype = accumulate_dtype(teacher_q.dtype)
    bias = None if bias is None else bias.to(dtype)
    teacher_bias = None if teacher_bias is None else teacher_bias.detach().to(teacher_dtype)
    teacher_q, teacher_k = teacher_q.detach(), teacher_k.detach()
    if backends.choose("row_divergence", q) == "reference":
        with torch.autocast(q.device.type, enabled=False):
            student = (q.to(dtype), k.to(dtype), bias)
            teacher = (teacher_q.to(teacher_dtype), teacher_k.to(teacher_dtype), teacher_bias)
            return reference.row_divergence(*student, *teacher, counts, temperature)
    args = (q, k, bias, teacher_q, teacher_k, teacher_bias, counts, temperature)
    return apply(_RowDivergence, *args)[0]


class _RowDivergence(Function):
    """The divergence, then what its backward needs: saved tensors must be in- or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, bias, teacher_q, teacher_k, teacher_bias, counts, temperature):
        forward = torch.ops.sslkernels_chunked.row_divergence_forward.default
        return forward(q, k, bias, teacher_q, teacher_k, teacher_bias, counts, temperature)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *tensors, ctx.temperature = inputs
        _, *lse = output
        ctx.mark_non_differentiable(*lse)
        ctx.save_for_backward(*lse, *tensors)

    @staticmethod
    def backward(ctx, *grads):
        saved = ctx.saved_tensors
        dq, dk, dbias = apply_in_backward(_RowDivergenceBackward, grads[0], *saved, ctx.temperature)
        dbias = None if saved[4] is None else dbias
        return dq, dk, dbias, None, None, None, None, None


class _RowDivergenceBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args):
        return torch.ops.sslkernels_chunked.row_divergence_backward.default(*args)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("row_divergence")


def _fake_forward(q, *rest):
    dtype = accumulate_dtype(q.dtype)
    return tuple(q.new_empty(q.shape[0], dtype=dtype) for _ in range(3))


def _fake_backward(grad, lse, teacher_lse, q, k, bias, *rest):
    dbias = q.new_empty(0 if bias is None else k.shape[0], dtype=lse.dtype)
    return torch.empty_like(q), torch.empty_like(k), dbias


define_chunked(
    "row_divergence_forward",
    "(Tensor q, Tensor k, Tensor? bias, Tensor teacher_q, Tensor teacher_k, Tensor? teacher_bias,"
    " Tensor counts, float temperature) -> (Tensor divergence, Tensor lse, Tensor teacher_lse)",
    chunked_divergence.row_divergence_forward,
    _fake_forward,
)
define_chunked(
    "row_divergence_backward",
    "(Tensor grad, Tensor lse, Tensor teacher_lse, Tensor q, Tensor k, Tensor? bias,"
    " Tensor teacher_q, Tensor teacher_k, Tensor? teacher_bias, Tensor counts, float temperature)"
    " -> (Tensor dq, Tensor dk, Tensor dbias)",
    chunked_divergence.row_divergence_backward,
    _fake_backward,
)
backends.add("row_divergence", lambda: None)
