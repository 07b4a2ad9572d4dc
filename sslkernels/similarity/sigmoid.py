"""`sigmoid_loss`: a logistic loss over all pairs of rows, whose logits are never stored.

The same layers as the engine's other operators: see op.py.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import (
    NAMESPACES,
    apply,
    apply_in_backward,
    complete_native,
    define_chunked,
    define_triton,
    is_one,
    second_order,
)
from sslkernels.similarity import chunked_sigmoid, cuda, reference
from sslkernels.similarity.op import scale_tensor


def sigmoid_loss(
    q: Tensor,
    k: Tensor,
    scale: float | Tensor,
    bias: float | Tensor,
    first: int = 0,
    reduction: str = "sum",
) -> Tensor:
    """`-sum_ij log sigmoid(y_ij s_ij)`, with s_ij = scale * <q_i, k_j> + bias.

    y_ij is 1 for j = i + first, else -1. "mean" divides by the number of rows. Differentiable once
    in q, k, scale and bias. Where a gradient is wanted it is computed together with the value, from
    the same logits: 3 products instead of 4. Arguments are not checked here.

    Args:
        q, k: [M, D] and [n, D] of one dtype.
        first: which key belongs to the first row; from n on no row has one.
        scale, bias: floats, or floating tensors with one element to get their gradients.
        reduction: "sum", or "mean" over the rows of q.

    Returns:
        0-dim tensor in the accumulation dtype.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("sigmoid_loss", q)
    dtype = accumulate_dtype(q.dtype)
    scale, bias = scale_tensor(scale, q), scale_tensor(bias, q)
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            return reference.sigmoid_loss(q.to(dtype), k.to(dtype), scale, bias, first, reduction)
    settings = (first, reduction, backends.matmul_precision(), name)
    q, k = q.contiguous(), k.contiguous()
    # Inside vmap requires_grad may read False although a gradient is wanted: the other path is
    # differentiable all the same.
    wanted = torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, scale, bias))
    if wanted:
        return apply(_OnePass, q, k, scale, bias, *settings)[0]
    return apply(_SigmoidLoss, q, k, scale, bias, *settings)


class _SigmoidLoss(Function):
    """The value alone; its backward computes value and gradients."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, bias, first, reduction, precision, name):
        forward = NAMESPACES[name].sigmoid_loss_forward.default
        return forward(q, k, scale, bias, first, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        *inputs, ctx.name = inputs
        ctx.settings, inputs = inputs[4:], inputs[:4]
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *grads):
        inputs = ctx.saved_tensors
        operator = NAMESPACES[ctx.name].sigmoid_loss_forward_backward.default
        _, *gradients = operator(*(x.detach() for x in inputs), *ctx.settings)
        return *apply_in_backward(_Backward, grads[0], *gradients, *inputs), *(None,) * 4


class _OnePass(Function):
    """The value, then its gradients for an upstream gradient of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, bias, first, reduction, precision, name):
        operator = NAMESPACES[name].sigmoid_loss_forward_backward.default
        return operator(q, k, scale, bias, first, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        inputs = inputs[:4]
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*gradients, *inputs)

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 8
        gradients, inputs = ctx.saved_tensors[:4], ctx.saved_tensors[4:]
        if is_one(grads[0]) and gradients[0].dtype is inputs[0].dtype:
            return *gradients, *(None,) * 4
        return *apply_in_backward(_Backward, grads[0], *gradients, *inputs), *(None,) * 4


class _Backward(Function):
    """Scales the gradients, out of place: a second backward finds them as they were.

    The inputs of the forward are arguments only so that a second derivative is noticed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, dq, dk, dscale, dbias, q, k, scale, bias):
        return (dq * grad).to(q.dtype), (dk * grad).to(k.dtype), dscale * grad, dbias * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("sigmoid_loss")


def _fake_forward(q, k, scale, bias, first, reduction, precision):
    return q.new_empty((), dtype=accumulate_dtype(q.dtype))


def _fake_forward_backward(q, k, scale, bias, first, reduction, precision):
    value, dscale, dbias = (q.new_empty((), dtype=accumulate_dtype(q.dtype)) for _ in range(3))
    dtype = chunked_sigmoid.gradient_dtype(q.dtype)
    return value, torch.empty_like(q, dtype=dtype), torch.empty_like(k, dtype=dtype), dscale, dbias


define_chunked(
    "sigmoid_loss_forward",
    "(Tensor q, Tensor k, Tensor scale, Tensor bias, int first, str reduction, int precision)"
    " -> Tensor",
    chunked_sigmoid.sigmoid_loss_forward,
    _fake_forward,
)
define_chunked(
    "sigmoid_loss_forward_backward",
    "(Tensor q, Tensor k, Tensor scale, Tensor bias, int first, str reduction, int precision)"
    " -> (Tensor value, Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)",
    chunked_sigmoid.sigmoid_loss_forward_backward,
    _fake_forward_backward,
)
backends.add(
    "sigmoid_loss",
    lambda: complete_native(
        sigmoid_loss_forward=_fake_forward, sigmoid_loss_forward_backward=_fake_forward_backward
    ),
)
backends.add_triton(
    ("sigmoid_loss",),
    lambda: define_triton(
        "sslkernels.similarity.triton.operators",
        sigmoid_loss_forward=_fake_forward,
        sigmoid_loss_forward_backward=_fake_forward_backward,
    ),
)
backends.add_cuda("sigmoid_loss", cuda.why_not)
