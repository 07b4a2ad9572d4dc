"""`unit_rows`: rows over their norms, in one pass each way where there is a C++ kernel.

Plain PyTorch makes some ten passes over the rows and their gradients, half of them in float32
whatever the dtype: as much time as the products of a loss in bfloat16.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function
from torch.nn import functional as F

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, complete_native, second_order


def unit_rows(x: Tensor) -> Tensor:
    """Rows over their norms, in the accumulation dtype, then rounded once to the dtype of x.

    `torch.nn.functional.normalize` along the last dimension; a row of zeros stays one. The products
    that follow are those of the dtype of x. Arguments are not checked here.

    Args:
        x: [..., D] floating.

    Returns:
        A tensor of the shape and dtype of x.

    Raises:
        RuntimeError: a second derivative was asked for, of the C++ kernel.
    """
    if not backends.runs_native("unit_rows", x):
        with torch.autocast(x.device.type, enabled=False):
            return F.normalize(x.to(accumulate_dtype(x.dtype)), dim=-1).to(x.dtype)
    if x.dim() != 2:  # a view of a matrix as itself would be a node of the graph, too
        return unit_rows(x.reshape(-1, x.shape[-1])).reshape(x.shape)
    return apply(_UnitRows, x.contiguous())[0]


class _UnitRows(Function):
    """Returns the rows, then what its backward needs: saved tensors must be in- or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(x):
        return torch.ops.sslkernels.unit_rows_forward.default(x)

    @staticmethod
    def setup_context(ctx, inputs, output):
        _, inv_norm = output
        ctx.mark_non_differentiable(inv_norm)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*inputs, inv_norm)

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return None
        return apply_in_backward(_UnitRowsBackward, grads[0].contiguous(), *ctx.saved_tensors)


class _UnitRowsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad, x, inv_norm):
        return torch.ops.sslkernels.unit_rows_backward.default(grad, x, inv_norm)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("unit_rows")


def _fake_forward(x):
    return torch.empty_like(x), x.new_empty(x.shape[0], dtype=accumulate_dtype(x.dtype))


def _fake_backward(grad, x, inv_norm):
    return torch.empty_like(x)


backends.add(
    "unit_rows",
    lambda: complete_native(unit_rows_forward=_fake_forward, unit_rows_backward=_fake_backward),
)
