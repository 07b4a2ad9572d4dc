"""NT-Xent by the C++ operators, with its gradients."""

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


def native_loss(
    z1: Tensor, z2: Tensor, scale: Tensor, normalize: bool, decoupled: bool, reduction: str
) -> Tensor:
    """The loss from the C++ operators: in one pass with its gradients where they are wanted.

    Not with a gradient for each row, nor with float16 gradients, which are tiny until the upstream
    gradient, in which a loss scaler puts its factor, has multiplied them. Inside vmap requires_grad
    may read False although a gradient is wanted; the other path is differentiable all the same.
    """
    wanted = z1.requires_grad or z2.requires_grad or scale.requires_grad
    one_pass = (
        wanted and reduction != "none" and z1.dtype is not torch.float16 and torch.is_grad_enabled()
    )
    function = _NTXentOnePass if one_pass else _NTXent
    precision = backends.matmul_precision()
    return apply(function, z1, z2, scale, normalize, decoupled, reduction, precision)[0]


class _NTXent(Function):
    """Loss, then what its backward needs: saved tensors must be inputs or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z1, z2, scale, normalize, decoupled, reduction, precision):
        forward = torch.ops.sslkernels.nt_xent_forward.default
        return forward(z1, z2, scale, normalize, decoupled, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        z1, z2, scale, *ctx.settings = inputs
        _, row_stat, inv_norm = output
        ctx.mark_non_differentiable(row_stat, inv_norm)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(row_stat, inv_norm, z1, z2, scale)

    @staticmethod
    def backward(ctx, *grads):
        grad = grads[0]
        if grad is None:
            return (None,) * 7
        saved = ctx.saved_tensors
        dz1, dz2, dscale = apply_in_backward(
            _NTXentBackward, grad.contiguous(), *saved, *ctx.settings
        )
        return dz1, dz2, dscale, None, None, None, None


class _NTXentBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(
        grad, row_stat, inv_norm, z1, z2, scale, normalize, decoupled, reduction, precision
    ):
        backward = torch.ops.sslkernels.nt_xent_backward.default
        return backward(
            grad, row_stat, inv_norm, z1, z2, scale, normalize, decoupled, reduction, precision
        )

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("nt_xent")


class _NTXentOnePass(Function):
    """Loss, then its gradients for an upstream gradient of 1."""

    generate_vmap_rule = True

    @staticmethod
    def forward(z1, z2, scale, normalize, decoupled, reduction, precision):
        operator = torch.ops.sslkernels.nt_xent_forward_backward.default
        return operator(z1, z2, scale, normalize, decoupled, reduction, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*gradients, *inputs[:3])

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 7
        saved = ctx.saved_tensors
        if is_one(grads[0]):
            dz1, dz2, dscale = saved[:3]
        else:
            dz1, dz2, dscale = apply_in_backward(_NTXentOnePassBackward, grads[0], *saved)
        return dz1, dz2, dscale, None, None, None, None


class _NTXentOnePassBackward(Function):
    """Scales the saved gradients, out of place: a second backward finds them as they were.

    The inputs of the forward are arguments only so that a second derivative is noticed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, dz1, dz2, dscale, z1, z2, scale):
        return dz1 * grad, dz2 * grad, dscale * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("nt_xent")


def _fake_nt_xent_forward(z1, z2, scale, normalize, decoupled, reduction, precision):
    n, dtype = 2 * z1.shape[0], accumulate_dtype(z1.dtype)
    loss = z1.new_empty((n,) if reduction == "none" else (), dtype=dtype)
    inv_norm = z1.new_empty(n if normalize else 0, dtype=dtype)
    return loss, z1.new_empty((2, n), dtype=dtype), inv_norm


def _fake_nt_xent_backward(grad, row_stat, inv_norm, z1, *settings):
    dscale = z1.new_empty((), dtype=accumulate_dtype(z1.dtype))
    return torch.empty_like(z1), torch.empty_like(z1), dscale


def _fake_nt_xent_forward_backward(z1, z2, *settings):
    loss, dscale = (z1.new_empty((), dtype=accumulate_dtype(z1.dtype)) for _ in range(2))
    return loss, torch.empty_like(z1), torch.empty_like(z2), dscale


backends.add(
    "nt_xent",
    lambda: complete_native(
        nt_xent_forward=_fake_nt_xent_forward,
        nt_xent_backward=_fake_nt_xent_backward,
        nt_xent_forward_backward=_fake_nt_xent_forward_backward,
    ),
)
backends.add_triton(("nt_xent",), lambda: None)  # nothing beside the engine's
backends.add_cuda("nt_xent", cuda.why_not)
