"""A logistic loss of every pair of rows, and its gradients: each logit is computed once for both.

Every tile has sums of its own, which are put together in a fixed order. 1 product for the value, 3
with the gradients.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.operators import on_device
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.products import Products
from sslkernels.similarity.triton.tiles import row_products, write_tile

_FLOAT16_FACTOR = 2.0**15
"""The derivative of a loss is within [-1, 1]; float16 holds it times this, and smaller ones so."""


def loss_sum(logits: Logits, bias: Tensor, first: int, weight: float) -> Tensor:
    """The sum of all losses times weight, 0-dim in float32."""
    return _losses(logits, bias, first, 0, None)[0] * weight


def loss_and_gradients(
    logits: Logits, bias: Tensor, first: int, weight: float, dtype: torch.dtype
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """That sum, then dq and dk of `dtype`, dscale and dbias."""
    q = logits.q
    sums = q.new_zeros(3, dtype=torch.float32)
    products = Products(logits, logits.scale * weight / _stored_factor(q.dtype), dtype)
    for start, block in products.blocks():
        sums = sums + _losses(logits, bias, first, start, block)
    value, dbias, dscale = (x * weight for x in sums)
    return value, *products.finish(), dscale, dbias


def _stored_factor(dtype: torch.dtype) -> float:
    return _FLOAT16_FACTOR if dtype is torch.float16 else 1.0


def _losses(logits: Logits, bias: Tensor, first: int, start: int, block: Tensor | None) -> Tensor:
    """Sums [3] of the losses, of their derivatives, and of those times <q_i, k_j>.

    Of all rows; with `block` of those from `start` on that it has room for, whose derivatives are
    written there.
    """
    q, n = logits.q, logits.k.shape[0]
    m, features = q.shape
    tile = configurations.gradient(q.dtype, features)
    rows = m if block is None else block.shape[0]
    grid = (triton.cdiv(rows, tile.rows), triton.cdiv(n, tile.columns))
    sums = q.new_empty(3, *grid, dtype=torch.float32)
    if sums.numel() == 0:
        return sums.sum((1, 2))
    with on_device(q):
        wrap_triton(_sigmoid_kernel)[grid](
            q,
            logits.k,
            logits.scale,
            bias,
            block,
            sums,
            start,
            m,
            n,
            features,
            0 if block is None else block.stride(0),
            first,
            GRADIENT=block is not None,
            STORED=_stored_factor(q.dtype),
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return sums.sum((1, 2))


@triton.jit
def _log1p_of_fraction(u):
    """log(1 + u) for u in [0, 1], relatively right however small u is: a minimax polynomial."""
    p = u * 0.00536482409 - 0.0300657917
    p = p * u + 0.079204537
    p = p * u - 0.137538031
    p = p * u + 0.191536546
    p = p * u - 0.248571634
    p = p * u + 0.33321324
    p = p * u - 0.499996483
    return (p * u + 1.0) * u


@triton.jit
def _sigmoid_kernel(
    q,
    k,
    scale,
    bias,
    out,
    sums,
    start,
    row_count,
    column_count,
    features,
    pitch,
    first,
    GRADIENT: tl.constexpr,
    STORED: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One tile: its sums, and with GRADIENT STORED times its derivatives into `out`.

    `start` is the row that `out` starts with. Neighbouring programs share a tile of k.
    """
    row_block, column_block = tl.program_id(0), tl.program_id(1)
    local = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = start + local
    columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    row_mask, column_mask = rows < row_count, columns < column_count
    products = row_products(
        q,
        k,
        rows,
        row_mask,
        columns,
        column_mask,
        features,
        BLOCK_M,
        BLOCK_N,
        BLOCK_D,
        MASK_D,
        PRECISION,
    )
    # Logits, negated where row and column are a pair: each should be small.
    sign = tl.where(columns[None, :] == (rows + first)[:, None], -1.0, 1.0)
    logits = (products * tl.load(scale) + tl.load(bias)) * sign
    inside = row_mask[:, None] & column_mask[None, :]
    fraction = tl.exp(-tl.abs(logits))
    loss = tl.maximum(logits, 0.0) + _log1p_of_fraction(fraction)
    at = sums + row_block * tl.num_programs(1) + column_block
    tl.store(at, tl.sum(tl.where(inside, loss, 0.0)))
    if GRADIENT:
        slope = sign * tl.where(logits > 0.0, 1.0, fraction) / (1.0 + fraction)
        slope = tl.where(inside, slope, 0.0)
        kind = tl.num_programs(0) * tl.num_programs(1)
        tl.store(at + kind, tl.sum(slope))
        tl.store(at + 2 * kind, tl.sum(slope * products))
        write_tile(out, slope * STORED, local, row_mask, columns, pitch)
