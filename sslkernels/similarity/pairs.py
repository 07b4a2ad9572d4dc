"""`pair_terms`: the softmax of the logits both ways, over columns and over rows, in one pass.

The same layers as the engine's other operators: see op.py.
"""

from __future__ import annotations

from typing import NamedTuple

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
from sslkernels.similarity import chunked_pairs, cuda, reference
from sslkernels.similarity.op import scale_tensor


class PairTerms(NamedTuple):
    """Three vectors: [M], [n], [M]."""

    row_lse: Tensor
    column_lse: Tensor
    pair_logit: Tensor


def pair_terms(q: Tensor, k: Tensor, scale: float | Tensor, first: int = 0) -> PairTerms:
    """What both directions of a contrastive loss need of the logits s_ij = scale * <q_i, k_j>.

    The [M, n] logits are never stored. Differentiable once in q, k and scale, through every term.
    4 matrix products for both directions: logits; logits again and two gradients. Where one shift
    of the exponents serves all rows and columns, an exponential serves both its row and its column;
    else (logits that are wide apart, as of a scale of 200 and more) each takes its own, and on a
    CPU the first product is made three times. Arguments are not checked here.

    Args:
        q: [M, D].
        k: [n, D] of the same dtype; n at least first + M.
        scale: a float, or a floating tensor with one element to get its gradient.
        first: row i of q and row first + i of k are a pair.

    Returns:
        PairTerms in the accumulation dtype, with `row_lse_i = log sum_j exp(s_ij)`,
        `column_lse_j = log sum_i exp(s_ij)`, and `pair_logit_i = s_i,first+i`.

    Raises:
        RuntimeError: a second derivative was asked for.
    """
    name = backends.choose("pair_terms", q)
    scale = scale_tensor(scale, q)
    if name == "reference":  # has no mixed precision of its own
        dtype = accumulate_dtype(q.dtype)
        with torch.autocast(q.device.type, enabled=False):
            return PairTerms(*reference.pair_terms(q.to(dtype), k.to(dtype), scale, first))
    precision = backends.matmul_precision()
    q, k = q.contiguous(), k.contiguous()
    return PairTerms(*apply(_PairTerms, q, k, scale, first, precision, name))


class _PairTerms(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(q, k, scale, first, precision, name):
        forward = NAMESPACES[name].pair_terms_forward.default
        return forward(q, k, scale, first, precision)

    @staticmethod
    def setup_context(ctx, inputs, output):
        q, k, scale, *ctx.settings = inputs
        row_lse, column_lse, _ = output
        ctx.save_for_backward(row_lse, column_lse, q, k, scale)

    @staticmethod
    def backward(ctx, *grads):
        upstream = (grad.contiguous() for grad in grads)
        gradients = apply_in_backward(
            _PairTermsBackward, *upstream, *ctx.saved_tensors, *ctx.settings
        )
        return *gradients, None, None, None


class _PairTermsBackward(Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(*args):
        *args, name = args
        return NAMESPACES[name].pair_terms_backward.default(*args)

    @staticmethod
    def setup_context(ctx, inputs, output):
        pass

    @staticmethod
    def backward(ctx, *grads):
        raise second_order("pair_terms")


def _fake_forward(q, k, scale, first, precision):
    dtype = accumulate_dtype(q.dtype)
    return tuple(q.new_empty(x.shape[0], dtype=dtype) for x in (q, k, q))


def _fake_backward(
    grad_row, grad_column, grad_pair, row_lse, column_lse, q, k, scale, first, precision
):
    return torch.empty_like(q), torch.empty_like(k), q.new_empty((), dtype=row_lse.dtype)


define_chunked(
    "pair_terms_forward",
    "(Tensor q, Tensor k, Tensor scale, int first, int precision)"
    " -> (Tensor row_lse, Tensor column_lse, Tensor pair_logit)",
    chunked_pairs.pair_terms_forward,
    _fake_forward,
)
define_chunked(
    "pair_terms_backward",
    "(Tensor grad_row, Tensor grad_column, Tensor grad_pair, Tensor row_lse, Tensor column_lse,"
    " Tensor q, Tensor k, Tensor scale, int first, int precision)"
    " -> (Tensor dq, Tensor dk, Tensor dscale)",
    chunked_pairs.pair_terms_backward,
    _fake_backward,
)
backends.add(
    "pair_terms",
    lambda: complete_native(pair_terms_forward=_fake_forward, pair_terms_backward=_fake_backward),
)
backends.add_triton(
    ("pair_terms",),
    lambda: define_triton(
        "sslkernels.similarity.triton.operators",
        pair_terms_forward=_fake_forward,
        pair_terms_backward=_fake_backward,
    ),
)
backends.add_cuda("pair_terms", cuda.why_not)
