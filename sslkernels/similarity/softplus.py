"""`softplus_sum`: a logistic loss of each row against every column, whose logits are never stored.

Plain PyTorch on every device.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, define_chunked, second_order
from sslkernels.similarity import chunked, reference
from sslkernels.similarity.chunked_terms import LogitGradients
from sslkernels.similarity.op import scale_tensor


def softplus_sum(
    q: Tensor, k: Tensor, scale: float | Tensor = 1.0, bias: Tensor | None = None
) -> Tensor:
    """`sum_j log(1 + exp(s_ij))` [M], with s_ij = scale * <q_i, k_j> + bias_j.

    Differentiable once in q, k, scale and bias, with any upstream gradient per row: 4 matrix
    products in all. Arguments are not checked here.

    Args:
        q, k: [M, D] and [n, D] of one dtype.
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [n] floating.

    Returns:
        [M] in the accumulation dtype.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("softplus_sum", q)
    dtype = accumulate_dtype(q.dtype)
    scale = scale_tensor(scale, q)
    bias = None if bias is None else bias.to(dtype)
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            logits = reference.logits(q.to(dtype), k.to(dtype), scale=scale, bias=bias)
            return -F.logsigmoid(-logits).sum(1)
    return apply(_SoftplusSum, q, k, scale, bias)


class _SoftplusSum(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, bias):
        return torch.ops.sslkernels_chunked.softplus_sum_forward.default(q, k, scale, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *grads):
        q, k, scale, bias = ctx.saved_tensors
        dq, dk, dscale, dbias = apply_in_backward(_SoftplusSumBackward, grads[0], q, k, scale, bias)
        return dq, dk, dscale, None if bias is None else dbias


class _SoftplusSumBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args):
        return torch.ops.sslkernels_chunked.softplus_sum_backward.default(*args)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("softplus_sum")


def _forward(q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None) -> Tensor:
    """One tile of logits at a time."""
    q, k, scale, bias = chunked.wide(q, k, scale, bias)
    total = q.new_zeros(q.shape[0])
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = chunked.logits_tile(q, k, scale, bias, (), rows, columns).neg_()
                total[rows] -= F.logsigmoid(tile).sum(1)
    return total


def _backward(
    grad: Tensor, q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias of sum_i grad_i * total_i."""
    wide_q, wide_k, scale, wide_bias = chunked.wide(q, k, scale, bias)
    gradients = LogitGradients(wide_q, wide_k, with_bias=bias is not None)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], wide_q.dtype)
        for rows in row_slices:
            for columns in column_slices:
                tile = chunked.logits_tile(wide_q, wide_k, scale, wide_bias, (), rows, columns)
                gradients.add(tile.sigmoid_().mul_(grad[rows, None]), rows, columns)
        dscale = (gradients.dq * wide_q).sum()
        dq, dk = (gradients.dq * scale).to(q.dtype), (gradients.dk * scale).to(k.dtype)
        return dq, dk, dscale, gradients.dbias


def _fake_forward(q, k, scale, bias):
    return q.new_empty(q.shape[0], dtype=accumulate_dtype(q.dtype))


def _fake_backward(grad, q, k, scale, bias):
    dbias = q.new_empty(0 if bias is None else k.shape[0], dtype=grad.dtype)
    return torch.empty_like(q), torch.empty_like(k), q.new_empty((), dtype=grad.dtype), dbias


define_chunked(
    "softplus_sum_forward",
    "(Tensor q, Tensor k, Tensor scale, Tensor? bias) -> Tensor",
    _forward,
    _fake_forward,
)
define_chunked(
    "softplus_sum_backward",
    "(Tensor grad, Tensor q, Tensor k, Tensor scale, Tensor? bias)"
    " -> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)",
    _backward,
    _fake_backward,
)
backends.add("softplus_sum", lambda: None)
