"""SupCon by its C++ operator, together with its gradients."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import (
    apply,
    apply_in_backward,
    complete_native,
    is_one,
    second_order,
)
from sslkernels.similarity import cuda


def serves(z: Tensor, scale: Tensor, reduction: str) -> bool:
    """Whether `native_loss` takes a call: a gradient of the mean or the sum is wanted.

    Not with a gradient for each row, nor with float16 gradients, which are tiny until the upstream
    gradient, in which a loss scaler puts its factor, has multiplied them. Inside vmap requires_grad
    may read False although a gradient is wanted; the other path is differentiable all the same.
    """
    wanted = torch.is_grad_enabled() and (z.requires_grad or scale.requires_grad)
    one_pass = wanted and reduction != "none" and z.dtype is not torch.float16
    return one_pass and backends.choose("supcon", z) == "cpu"


def native_loss(
    z: Tensor, labels: Tensor, scale: Tensor, normalize: bool, reduction: str
) -> Tensor:
    """The loss, in one pass with its gradients."""
    labels = labels.to(torch.int64).contiguous()
    precision = backends.matmul_precision()
    return apply(_SupCon, z.contiguous(), labels, scale, normalize, reduction, precision)[0]


class _SupCon(Function):
    """Loss, then its gradients for an upstream gradient of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z, labels, scale, normalize, reduction, precision):
        operator = torch.ops.sslkernels.supcon_forward_backward.default
        return operator(z, labels, scale, normalize, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z, _, scale, *_ = inputs
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*gradients, z, scale)

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 6
        saved = ctx.saved_tensors
        if is_one(grads[0]):
            dz, dscale = saved[:2]
        else:
            dz, dscale = apply_in_backward(_SupConBackward, grads[0], *saved)
        return dz, None, dscale, None, None, None


class _SupConBackward(Function):
    """Scales the saved gradients, out of place: a second backward finds them as they were.

    The inputs of the forward are arguments only so that a second derivative is noticed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, dz, dscale, z, scale):
        return dz * grad, dscale * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("supcon")


def _fake_supcon_forward_backward(z, labels, scale, *settings):
    loss, dscale = (z.new_empty((), dtype=accumulate_dtype(z.dtype)) for _ in range(2))
    return loss, torch.empty_like(z), dscale


backends.add(
    "supcon",
    lambda: complete_native(supcon_forward_backward=_fake_supcon_forward_backward),
)
backends.add_triton(("supcon",), lambda: None)  # nothing beside the engine's
backends.add_cuda("supcon", cuda.why_not)
