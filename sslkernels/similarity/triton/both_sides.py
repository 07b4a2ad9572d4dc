"""A tile of logits whose rows and columns both have a softmax: one exponential serves both.

One shift of the exponents does for the whole tile unless its logits, or the log-sum-exps of its
sides, are wide apart; then each side takes exponentials of its own.
"""

# pyright: reportArgumentType=false
# (A kernel is compiled by Triton: its constants are numbers here.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.similarity.triton.tiles import finite_or_zero, leave_out

_SMALLEST_SUM = tl.constexpr(2.0**-60)
"""Below it a sum, taken relative to the largest logit of the tile, may have lost terms."""

_WIDEST_SPREAD = tl.constexpr(60.0)
"""Log-sum-exps further apart than this are no factors of one exponential."""


@triton.jit
def _logsumexp(logits, AXIS: tl.constexpr):
    shift = finite_or_zero(tl.max(logits, AXIS))
    total = tl.sum(tl.exp(logits - tl.expand_dims(shift, AXIS)), AXIS)
    return shift + tl.log(total)


@triton.jit
def pair_logits(
    products, factor, rows, row_mask, columns, column_mask, count, offset_a, offset_b, EXCLUDE
):
    """Logits of rows against themselves; -inf outside of them and where they are excluded."""
    logits = leave_out(
        products * factor, rows, columns, column_mask, count, offset_a, offset_b, EXCLUDE
    )
    return tl.where(row_mask[:, None], logits, float("-inf"))


@triton.jit
def pair_gradient(logits, row_grad, row_lse, row_mask, column_grad, column_lse, column_mask):
    """grad_i exp(s_ij - lse_i) + grad_j exp(s_ij - lse_j), of one exponential where it can be."""
    lowest = tl.minimum(
        tl.min(tl.where(row_mask, row_lse, float("inf"))),
        tl.min(tl.where(column_mask, column_lse, float("inf"))),
    )
    highest = tl.maximum(
        tl.max(tl.where(row_mask, row_lse, float("-inf"))),
        tl.max(tl.where(column_mask, column_lse, float("-inf"))),
    )
    if highest - lowest < _WIDEST_SPREAD:
        row_share = row_grad * tl.exp(lowest - tl.where(row_mask, row_lse, lowest))
        column_share = column_grad * tl.exp(lowest - tl.where(column_mask, column_lse, lowest))
        gradient = tl.exp(logits - lowest) * (row_share[:, None] + column_share[None, :])
    else:
        gradient = tl.exp(logits - row_lse[:, None]) * row_grad[:, None]
        gradient += tl.exp(logits - column_lse[None, :]) * column_grad[None, :]
    return tl.where(row_mask[:, None] & column_mask[None, :], gradient, 0.0)


@triton.jit
def tile_logsumexp(logits, row_mask, column_mask):
    """Log-sum-exp of each row and of each column of a tile."""
    largest = tl.max(logits)
    shift = finite_or_zero(largest)
    pairs = tl.exp(logits - shift)
    row_total, column_total = tl.sum(pairs, 1), tl.sum(pairs, 0)
    row_lse, column_lse = shift + tl.log(row_total), shift + tl.log(column_total)
    # Where a row lies far below the rest of the tile: each row and column by its own maximum.
    least = tl.minimum(
        tl.min(tl.where(row_mask, row_total, 1.0)), tl.min(tl.where(column_mask, column_total, 1.0))
    )
    if (least < _SMALLEST_SUM) | (largest == float("inf")):
        row_lse = _logsumexp(logits, 1)
        column_lse = _logsumexp(logits, 0)
    return row_lse, column_lse
