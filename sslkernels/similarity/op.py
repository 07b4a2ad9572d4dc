"""The two differentiable operators of the engine.

A call goes: checks, choice of implementation, `autograd.Function` over a registered operator. The
forward and the backward are registered operators of their own (C++: `torch.ops.sslkernels`, plain
PyTorch: `torch.ops.sslkernels_chunked`, Triton: `torch.ops.sslkernels_triton`, same names and
schemas), so torch.compile, export and fake tensors see opaque calls. The backward is a second
Function because torch.func differentiates through it; asking for its derivative is an error that
says what to do.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    is_one,
    second_order,
)
from sslkernels.similarity import chunked, cuda, reference


def logsumexp(
    q: Tensor,
    k: Tensor | None = None,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """Row-wise log-sum-exp of the implicit logits `scale * <q_i, k_j> + bias_j`.

    The [M, n_k] logits are never stored. Differentiable once in q, k, scale and bias, with any
    upstream gradient per row.

    Args:
        q: [M, D], float64, float32, bfloat16 or float16; float32 is cast under autocast.
        k: [n_k, D] with the dtype and device of q; None takes q for k (the symmetric path).
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [n_k] floating, added to column j of every row.
        exclude: offsets; for each offset o, column (i + o) mod n_k does not count for row i.

    Returns:
        [M], float64 for float64 inputs, else float32; -inf where no column is left.

    Raises:
        TypeError: a tensor that is not dense or not floating; q and k of different dtype.
        ValueError: wrong shapes or devices, no features, no columns.
        RuntimeError: a second derivative was asked for.
    """
    name, q, k, scale, bias = _prepare("logsumexp", q, k, scale, bias, exclude)
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            return reference.logsumexp(q, k, scale=scale, bias=bias, exclude=exclude)
    return apply(_LogSumExp, q, k, scale, bias, exclude, backends.matmul_precision(), name)


def weighted_logsumexp(
    q: Tensor,
    k: Tensor | None,
    row_weight: Tensor,
    *,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
    exclude: Sequence[int] = (),
) -> Tensor:
    """The scalar `sum_i row_weight_i * lse_i`, with its gradients computed in the forward pass.

    Saves one of four products against `logsumexp` where the weights are known beforehand.
    float16 inputs take the path of `logsumexp`: gradients of single elements are tiny until the
    upstream gradient, in which a loss scaler puts its factor, has multiplied them.

    Args:
        q, k, scale, bias, exclude: as for `logsumexp`.
        row_weight: [M] floating; its gradient is lse.

    Returns:
        0-dim tensor, float64 for float64 inputs, else float32.

    Raises:
        TypeError, ValueError, RuntimeError: as `logsumexp`.
    """
    op = "weighted_logsumexp"
    name, q, k, scale, bias = _prepare(op, q, k, scale, bias, exclude)
    checks.vector(op, "row_weight", row_weight, q.shape[0], q, "q")
    row_weight = row_weight.to(accumulate_dtype(q.dtype))
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            return reference.weighted_logsumexp(
                q, k, row_weight, scale=scale, bias=bias, exclude=exclude
            )
    precision = backends.matmul_precision()
    # Not only a shortcut: inside vmap requires_grad may read False although a gradient is wanted,
    # and this path is differentiable all the same.
    wanted = torch.is_grad_enabled() and any(
        x is not None and x.requires_grad for x in (q, k, row_weight, scale, bias)
    )
    if q.dtype is torch.float16 or not wanted:
        lse = apply(_LogSumExp, q, k, scale, bias, exclude, precision, name)
        return (row_weight * lse).sum()
    weight = row_weight.contiguous()
    return apply(_WeightedLogSumExp, q, k, weight, scale, bias, exclude, precision, name)[0]


def scale_tensor(scale: float | Tensor, q: Tensor) -> Tensor:
    """`scale` as the 0-dim tensor that the operators take, in the accumulation dtype."""
    dtype = accumulate_dtype(q.dtype)
    if not isinstance(scale, Tensor):
        return torch.full((), scale, dtype=dtype, device=q.device)
    return scale.reshape(()).to(q.device, dtype)


def _prepare(
    op: str,
    q: Tensor,
    k: Tensor | None,
    scale: float | Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
) -> tuple[str, Tensor, Tensor | None, Tensor, Tensor | None]:
    """Check the arguments, choose the implementation, and give its operators what they take."""
    checks.matrix(op, "q", q)
    q = checks.autocast(q)
    columns = q
    if k is not None:
        checks.matrix(op, "k", k)
        if k.shape[0] == 0 or k.shape[1] != q.shape[1]:
            raise ValueError(
                f"{op}: k must have shape [n_k, {q.shape[1]}] with n_k at least 1, "
                f"got {list(k.shape)}"
            )
        checks.same_device(op, "k", k, "q", q)
        columns = k = checks.autocast(k)
        checks.same_dtype(op, "k", k, "q", q)
        k = k.contiguous()
    if isinstance(scale, Tensor):
        checks.scalar_tensor(op, "scale", scale, q, "q")
    elif not isinstance(scale, (int, float)):
        raise TypeError(f"{op}: scale must be a float or a tensor, got {type(scale).__name__}")
    checks.offsets(op, "exclude", exclude)
    name = backends.choose(op, q)
    if name == "reference":  # has no mixed precision of its own
        q = q.to(accumulate_dtype(q.dtype))
        k = None if k is None else k.to(q.dtype)
    if bias is not None:
        checks.vector(op, "bias", bias, columns.shape[0], q, "q")
        bias = bias.to(accumulate_dtype(q.dtype)).contiguous()
    return name, q.contiguous(), k, scale_tensor(scale, q), bias


class _LogSumExp(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, bias, exclude, precision, name):
        forward = NAMESPACES[name].logsumexp_forward.default
        return forward(q, k, scale, bias, exclude, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, scale, bias, *ctx.settings = inputs
        ctx.save_for_backward(output, q, k, scale, bias)

    @staticmethod
    def backward(ctx, *grads):
        lse, q, k, scale, bias = ctx.saved_tensors
        exclude, *rest = ctx.settings
        with_dk = k is not None and ctx.needs_input_grad[1]
        dq, dk, dscale, dbias = apply_in_backward(
            _LogSumExpBackward,
            grads[0].contiguous(),
            *(lse, q, k, scale, bias),
            *(exclude, with_dk, *rest),
        )
        dk = dk if with_dk else None
        dbias = None if bias is None else dbias
        return dq, dk, dscale, dbias, None, None, None


class _LogSumExpBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(grad, lse, q, k, scale, bias, exclude, with_dk, precision, name):
        backward = NAMESPACES[name].logsumexp_backward.default
        return backward(grad, lse, q, k, scale, bias, exclude, with_dk, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("logsumexp")


class _WeightedLogSumExp(Function):
    """Returns the value, then what its backward needs: saved tensors must be in- or outputs."""

    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, row_weight, scale, bias, exclude, precision, name):
        forward = NAMESPACES[name].weighted_logsumexp_forward.default
        return forward(q, k, row_weight, scale, bias, exclude, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, row_weight, scale, bias, *_ = inputs
        _, *gradients = output
        ctx.mark_non_differentiable(*gradients)
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(*gradients, q, k, row_weight, scale, bias)

    @staticmethod
    def backward(ctx, *grads):
        if grads[0] is None:
            return (None,) * 8
        saved = ctx.saved_tensors
        if is_one(grads[0]):
            dweight, dq, dk, dscale, dbias = saved[:5]
        else:
            dq, dk, dweight, dscale, dbias = apply_in_backward(
                _WeightedLogSumExpBackward, grads[0], *saved
            )
        _, k, _, _, bias = saved[5:]
        dk = None if k is None else dk
        dbias = None if bias is None else dbias
        return dq, dk, dweight, dscale, dbias, None, None, None


class _WeightedLogSumExpBackward(Function):
    """Scales the saved gradients, out of place: a second backward finds them as they were.

    The inputs of the forward are arguments only so that a second derivative is noticed.
    """

    generate_vmap_rule = True

    @staticmethod
    def forward(grad, lse, dq, dk, dscale, dbias, q, k, row_weight, scale, bias):
        return dq * grad, dk * grad, lse * grad, dscale * grad, dbias * grad

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("weighted_logsumexp")


def _fake_logsumexp_forward(q, k, scale, bias, exclude, precision):
    return q.new_empty(q.shape[0], dtype=accumulate_dtype(q.dtype))


def _fake_logsumexp_backward(grad, lse, q, k, scale, bias, exclude, with_dk, precision):
    return _fake_gradients(q, k if with_dk else None, bias)


def _fake_weighted_logsumexp_forward(q, k, row_weight, scale, bias, exclude, precision):
    dtype = accumulate_dtype(q.dtype)
    value, lse = q.new_empty((), dtype=dtype), q.new_empty(q.shape[0], dtype=dtype)
    return value, lse, *_fake_gradients(q, k, bias)


def _fake_gradients(q, k, bias):
    dtype = accumulate_dtype(q.dtype)
    dk = q.new_empty(0, q.shape[1]) if k is None else torch.empty_like(k)
    columns = 0 if bias is None else bias.shape[0]
    dscale, dbias = q.new_empty((), dtype=dtype), q.new_empty(columns, dtype=dtype)
    return torch.empty_like(q), dk, dscale, dbias


define_chunked(
    "logsumexp_forward",
    "(Tensor q, Tensor? k, Tensor scale, Tensor? bias, SymInt[] exclude, int precision) -> Tensor",
    chunked.logsumexp_forward,
    _fake_logsumexp_forward,
)
define_chunked(
    "logsumexp_backward",
    "(Tensor grad, Tensor lse, Tensor q, Tensor? k, Tensor scale, Tensor? bias, SymInt[] exclude,"
    " bool with_dk, int precision) -> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)",
    chunked.logsumexp_backward,
    _fake_logsumexp_backward,
)
define_chunked(
    "weighted_logsumexp_forward",
    "(Tensor q, Tensor? k, Tensor row_weight, Tensor scale, Tensor? bias, SymInt[] exclude,"
    " int precision) -> (Tensor value, Tensor lse, Tensor dq, Tensor dk, Tensor dscale,"
    " Tensor dbias)",
    chunked.weighted_logsumexp_forward,
    _fake_weighted_logsumexp_forward,
)
backends.add(
    "logsumexp",
    lambda: complete_native(
        logsumexp_forward=_fake_logsumexp_forward, logsumexp_backward=_fake_logsumexp_backward
    ),
)
backends.add(
    "weighted_logsumexp",
    lambda: complete_native(weighted_logsumexp_forward=_fake_weighted_logsumexp_forward),
)
backends.add_triton(
    ("logsumexp", "weighted_logsumexp"),
    lambda: define_triton(
        "sslkernels.similarity.triton.operators",
        logsumexp_forward=_fake_logsumexp_forward,
        logsumexp_backward=_fake_logsumexp_backward,
        weighted_logsumexp_forward=_fake_weighted_logsumexp_forward,
    ),
)
backends.add_cuda("logsumexp", cuda.why_not)
backends.add_cuda("weighted_logsumexp", cuda.why_not)
