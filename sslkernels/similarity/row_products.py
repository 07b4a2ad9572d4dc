"""`row_products`: each row against keys of its own, a batched product in plain PyTorch.

Each key meets one row, so that the products are 1 / D of the keys and are stored. What there is to
gain over plain autograd is that sixteen-bit keys are saved as they are, and that no product is
rounded to sixteen bits, whatever autocast is on around the forward or the backward.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, define_chunked, second_order


def row_products(op: str, q: Tensor, keys: Tensor) -> Tensor:
    """`<q_i, keys_ij>` [N, K] in the accumulation dtype, of q [N, D] and keys [N, K, D].

    A part of the head `op`, the same in all of its implementations. Differentiable once in both.
    Arguments are not checked here.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    if backends.choose(op, q) == "reference":
        with torch.autocast(q.device.type, enabled=False):
            return _forward(q, keys)
    return apply(_RowProducts, q, keys)


class _RowProducts(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, keys):
        return torch.ops.sslkernels_chunked.row_products_forward.default(q, keys)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(*inputs)

    @staticmethod
    def backward(ctx, *grads):
        return apply_in_backward(_RowProductsBackward, grads[0], *ctx.saved_tensors)


class _RowProductsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad, q, keys):
        return torch.ops.sslkernels_chunked.row_products_backward.default(grad, q, keys)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("row_products")


def _forward(q: Tensor, keys: Tensor) -> Tensor:
    dtype = accumulate_dtype(q.dtype)
    with torch.autocast(q.device.type, enabled=False):
        return torch.bmm(keys.to(dtype), q.to(dtype)[:, :, None]).squeeze(2)


def _backward(grad: Tensor, q: Tensor, keys: Tensor) -> tuple[Tensor, Tensor]:
    with torch.autocast(q.device.type, enabled=False):
        dq = torch.bmm(grad[:, None], keys.to(grad.dtype)).squeeze(1)
        return dq.to(q.dtype), (grad[:, :, None] * q.to(grad.dtype)[:, None]).to(keys.dtype)


def _fake_forward(q, keys):
    return q.new_empty(keys.shape[:2], dtype=accumulate_dtype(q.dtype))


def _fake_backward(grad, q, keys):
    return torch.empty_like(q), keys.new_empty(keys.shape)


define_chunked("row_products_forward", "(Tensor q, Tensor keys) -> Tensor", _forward, _fake_forward)
define_chunked(
    "row_products_backward",
    "(Tensor grad, Tensor q, Tensor keys) -> (Tensor dq, Tensor dkeys)",
    _backward,
    _fake_backward,
)
