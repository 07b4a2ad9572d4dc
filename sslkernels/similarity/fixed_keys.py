"""`fixed_keys_logsumexp`: the engine's log-sum-exp over keys that want no gradient, say a queue.

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
    second_order,
)
from sslkernels.similarity import chunked_fixed_keys, reference
from sslkernels.similarity.op import scale_tensor


def wants_no_gradient(k: Tensor, bias: Tensor | None) -> bool:
    """Whether `fixed_keys_logsumexp` may be called; certain of the answer yes."""
    # Inside vmap requires_grad may read False although one is wanted.
    if torch._C._are_functorch_transforms_active():
        return False
    return not (k.requires_grad or (bias is not None and bias.requires_grad))


def fixed_keys_logsumexp(
    q: Tensor, k: Tensor, scale: float | Tensor, bias: Tensor | None = None
) -> Tensor:
    """Row-wise log-sum-exp of scale * <q_i, k_j> + bias_j, differentiable once in q and scale.

    The [M, n] logits are never stored. The gradients come from the forward: 2 matrix products,
    logits and the keys that each row expects under its softmax, from one exponential of each logit
    where one shift of the exponents serves all, and on a GPU where rows are narrow enough for the
    registers; else 3. Without a gradient 1. Arguments are not
    checked here.

    Args:
        q: [M, D].
        k: [n, D] of the same dtype.
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [n] floating, added to column j of every row.

    Returns:
        [M] in the accumulation dtype.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("fixed_keys", q)
    dtype = accumulate_dtype(q.dtype)
    scale = scale_tensor(scale, q)
    k = k.detach()
    bias = None if bias is None else bias.detach().to(dtype).contiguous()
    if name == "reference":  # has no mixed precision of its own
        with torch.autocast(q.device.type, enabled=False):
            return reference.logsumexp(q.to(dtype), k.to(dtype), scale=scale, bias=bias)
    precision = backends.matmul_precision()
    q, k = q.contiguous(), k.contiguous()
    # Inside vmap requires_grad may read False although a gradient is wanted.
    known = not torch._C._are_functorch_transforms_active()
    if known and not (torch.is_grad_enabled() and (q.requires_grad or scale.requires_grad)):
        forward = NAMESPACES[backends.choose("logsumexp", q)].logsumexp_forward.default
        return forward(q, k, scale, bias, (), precision)
    return apply(_FixedKeys, q, k, scale, bias, precision, name)[0]


class _FixedKeys(Function):
    """Returns lse, then what its backward needs: saved tensors must be in- or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, bias, precision, name):
        return NAMESPACES[name].fixed_keys_forward.default(q, k, scale, bias, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, _, scale, *_ = inputs
        _, mean_key = output
        ctx.mark_non_differentiable(mean_key)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(mean_key, q, scale)

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 6
        dq, dscale = apply_in_backward(_FixedKeysBackward, grads[0], *ctx.saved_tensors)
        return dq, None, dscale, None, None, None


class _FixedKeysBackward(Function):
    """q and scale are arguments also so that a second derivative is noticed."""

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, mean_key, q, scale):
        weighted = grad[:, None] * mean_key
        dscale = (weighted * q).sum(1).sum()  # rows first: the same bits for any number of threads
        return (weighted * scale).to(q.dtype), dscale

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("fixed_keys_logsumexp")


def _fake_forward(q, k, scale, bias, precision):
    dtype = accumulate_dtype(q.dtype)
    return q.new_empty(q.shape[0], dtype=dtype), torch.empty_like(q, dtype=dtype)


define_chunked(
    "fixed_keys_forward",
    "(Tensor q, Tensor k, Tensor scale, Tensor? bias, int precision)"
    " -> (Tensor lse, Tensor mean_key)",
    chunked_fixed_keys.fixed_keys_forward,
    _fake_forward,
)
backends.add("fixed_keys", lambda: complete_native(fixed_keys_forward=_fake_forward))
backends.add_triton(
    ("fixed_keys",),
    lambda: define_triton(
        "sslkernels.similarity.triton.operators", fixed_keys_forward=_fake_forward
    ),
)
