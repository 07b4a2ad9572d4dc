"""What the kernels of the engine share: loading tiles, products, logits, running sums.

Row numbers are 64 bit wherever they meet a row length, so no product of the two can overflow.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(
    base, rows, row_mask, first_column, width, BLOCK: tl.constexpr, MASK_COLUMNS: tl.constexpr
):
    """[rows, BLOCK] from a row-major matrix of `width` columns; zero outside of it."""
    columns = first_column + tl.arange(0, BLOCK)
    pointers = base + rows.to(tl.int64)[:, None] * width + columns[None, :]
    mask = row_mask[:, None]
    if MASK_COLUMNS:
        mask = mask & (columns < width)[None, :]
    return tl.load(pointers, mask=mask, other=0.0)


@triton.jit
def dot(a, b, accumulator, PRECISION: tl.constexpr):
    """accumulator + a @ b; "bf16" rounds float32 operands, the others are Triton's own."""
    if PRECISION == "bf16":
        return tl.dot(a.to(tl.bfloat16), b.to(tl.bfloat16), accumulator)
    else:
        return tl.dot(a, b, accumulator, input_precision=PRECISION)


@triton.jit
def row_products(
    q,
    k,
    q_rows,
    q_mask,
    k_rows,
    k_mask,
    features,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[BLOCK_M, BLOCK_N] of <q_i, k_j> in float32, BLOCK_D features at a time."""
    products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, features, BLOCK_D):
        left = load_rows(q, q_rows, q_mask, start, features, BLOCK_D, MASK_D)
        right = load_rows(k, k_rows, k_mask, start, features, BLOCK_D, MASK_D)
        products = dot(left, tl.trans(right), products, PRECISION)
    return products


@triton.jit
def tile_products(
    q,
    k,
    q_rows,
    q_mask,
    k_rows,
    k_mask,
    features,
    WHOLE: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """As `row_products`; WHOLE: q is the tile of rows itself, which has all their features."""
    if WHOLE:
        right = load_rows(k, k_rows, k_mask, 0, features, BLOCK_D, MASK_D)
        products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        return dot(q, tl.trans(right), products, PRECISION)
    else:
        return row_products(
            q,
            k,
            q_rows,
            q_mask,
            k_rows,
            k_mask,
            features,
            BLOCK_M,
            BLOCK_N,
            BLOCK_D,
            MASK_D,
            PRECISION,
        )


@triton.jit
def capped_logits(
    products,
    scale,
    bias,
    columns,
    column_mask,
    softcap,
    HAS_BIAS: tl.constexpr,
    SOFTCAP: tl.constexpr,
):
    """Logits from products, before anything is excluded."""
    logits = products * scale
    if HAS_BIAS:
        logits += tl.load(bias + columns, mask=column_mask, other=0.0)[None, :]
    if SOFTCAP:
        logits = softcap * tanh(logits / softcap)
    return logits


@triton.jit
def tanh(x):
    decay = tl.exp(-2.0 * tl.abs(x))
    magnitude = (1.0 - decay) / (1.0 + decay)
    return tl.where(x < 0.0, -magnitude, magnitude)


@triton.jit
def excluded_column(rows, offset, column_count):
    """Column (row + offset) mod column_count of each row."""
    return ((rows.to(tl.int64) + offset) % column_count).to(tl.int32)


@triton.jit
def leave_out(
    logits, rows, columns, column_mask, column_count, offset_a, offset_b, EXCLUDE: tl.constexpr
):
    """-inf outside the matrix and at up to two excluded columns of each row."""
    logits = tl.where(column_mask[None, :], logits, float("-inf"))
    if EXCLUDE > 0:
        out = excluded_column(rows, offset_a, column_count)
        logits = tl.where(columns[None, :] == out[:, None], float("-inf"), logits)
    if EXCLUDE > 1:
        out = excluded_column(rows, offset_b, column_count)
        logits = tl.where(columns[None, :] == out[:, None], float("-inf"), logits)
    return logits


@triton.jit
def write_tile(out, tile, rows, row_mask, columns, pitch):
    """Into a row-major matrix; all of a row's pitch, so that nobody meets what was there before."""
    pointers = out + rows.to(tl.int64)[:, None] * pitch + columns[None, :]
    mask = row_mask[:, None] & (columns < pitch)[None, :]
    tl.store(pointers, tile.to(out.dtype.element_ty), mask=mask)


@triton.jit
def finite_or_zero(x):
    """A shift for exponents: with it an infinite maximum gives 0 or inf, and never NaN."""
    return tl.where(tl.abs(x) == float("inf"), 0.0, x)


@triton.jit
def row_shift(lse):
    """lse, or 0 for a row without an allowed column: exp(-inf - 0) is the zero that it wants."""
    return tl.where(lse == float("-inf"), 0.0, lse)


@triton.jit
def add_exponents(largest, total, exponents):
    """Running maximum and sum of exp(exponent - maximum), with one more for each row."""
    new = tl.maximum(largest, exponents)
    shift = finite_or_zero(new)
    return new, total * tl.exp(largest - shift) + tl.exp(exponents - shift)


@triton.jit
def add_logits(largest, total, logits):
    """Running maximum and sum of exp(logits - maximum) of each row, with one more tile."""
    new = tl.maximum(largest, tl.max(logits, 1))
    shift = finite_or_zero(new)
    added = tl.sum(tl.exp(logits - shift[:, None]), 1)
    return new, total * tl.exp(largest - shift) + added
