"""`logsumexp_excluding`: log-sum-exp over the keys that do not share a row's id.

Plain PyTorch on every device: in a batch only the few rows whose id occurs again come here.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd import Function

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.operators import apply, apply_in_backward, define_chunked, second_order
from sslkernels.similarity import chunked_excluding, reference
from sslkernels.similarity.op import scale_tensor


def logsumexp_excluding(
    q: Tensor,
    k: Tensor,
    row_ids: Tensor,
    key_ids: Tensor,
    counts: Tensor,
    scale: float | Tensor = 1.0,
    bias: Tensor | None = None,
) -> Tensor:
    """`log sum_j exp(scale * <q_i, k_j> + bias_j)` over the keys with `key_ids_j != row_ids_i`.

    Differentiable once in q, k, scale and bias. Arguments are not checked here.

    Args:
        q, k: [M, D] and [n, D] of one dtype.
        row_ids, key_ids: [M] and [n] int64.
        counts: [M] bool; nothing is computed for a row of False.
        scale: a float, or a floating tensor with one element to get its gradient.
        bias: [n] floating.

    Returns:
        [M] in the accumulation dtype; -inf where no key is left, 0 in a row that does not count.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("logsumexp_excluding", q)
    dtype = accumulate_dtype(q.dtype)
    scale = scale_tensor(scale, q)
    bias = None if bias is None else bias.to(dtype)
    if name == "reference":
        with torch.autocast(q.device.type, enabled=False):
            return reference.logsumexp_excluding(
                q.to(dtype), k.to(dtype), row_ids, key_ids, counts, scale, bias
            )
    return apply(_LogSumExpExcluding, q, k, row_ids, key_ids, counts, scale, bias)


class _LogSumExpExcluding(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, row_ids, key_ids, counts, scale, bias):
        forward = torch.ops.sslkernels_chunked.logsumexp_excluding_forward.default
        return forward(q, k, row_ids, key_ids, counts, scale, bias)

    @staticmethod
    def setup_context(ctx, inputs, output):
        ctx.save_for_backward(output, *inputs)

    @staticmethod
    def backward(ctx, *grads):
        saved = ctx.saved_tensors
        dq, dk, dscale, dbias = apply_in_backward(_LogSumExpExcludingBackward, grads[0], *saved)
        dbias = None if saved[-1] is None else dbias
        return dq, dk, None, None, None, dscale, dbias


class _LogSumExpExcludingBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args):
        return torch.ops.sslkernels_chunked.logsumexp_excluding_backward.default(*args)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("logsumexp_excluding")


def _fake_forward(q, k, row_ids, key_ids, counts, scale, bias):
    return q.new_empty(q.shape[0], dtype=accumulate_dtype(q.dtype))


def _fake_backward(grad, lse, q, k, row_ids, key_ids, counts, scale, bias):
    dbias = q.new_empty(0 if bias is None else k.shape[0], dtype=lse.dtype)
    return torch.empty_like(q), torch.empty_like(k), q.new_empty((), dtype=lse.dtype), dbias


define_chunked(
    "logsumexp_excluding_forward",
    "(Tensor q, Tensor k, Tensor row_ids, Tensor key_ids, Tensor counts, Tensor scale,"
    " Tensor? bias) -> Tensor",
    chunked_excluding.logsumexp_excluding_forward,
    _fake_forward,
)
define_chunked(
    "logsumexp_excluding_backward",
    "(Tensor grad, Tensor lse, Tensor q, Tensor k, Tensor row_ids, Tensor key_ids, Tensor counts,"
    " Tensor scale, Tensor? bias) -> (Tensor dq, Tensor dk, Tensor dscale, Tensor dbias)",
    chunked_excluding.logsumexp_excluding_backward,
    _fake_backward,
)
backends.add("logsumexp_excluding", lambda: None)
