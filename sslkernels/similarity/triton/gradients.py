"""Gradients of any terms of the logits, for any number of features, the same on every run.

The gradient of the logits is written tile by tile, and multiplied as `products` says: three
products in all, one of them the logits once more.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.operators import on_device
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.forward import Logits, exclusions
from sslkernels.similarity.triton.products import Products
from sslkernels.similarity.triton.tiles import (
    capped_logits,
    leave_out,
    row_products,
    row_shift,
    write_tile,
)

_HALF_RANGE = 1024.0
"""float16 gradients are stored as multiples of the largest upstream one over this number."""


class Upstream(NamedTuple):
    """Upstream gradients [M] in float32 of lse, target logit and weighted sum."""

    lse: Tensor
    target_logit: Tensor | None = None
    weighted_sum: Tensor | None = None


def gradients(
    logits: Logits,
    upstream: Upstream,
    lse: Tensor,
    target: Tensor | None = None,
    column_weight: Tensor | None = None,
    symmetric: bool = False,
    with_dk: bool = True,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias; dk is empty without `with_dk`.

    With `symmetric` k is q, dq is the whole gradient and dk is empty.
    """
    q, n, with_bias = logits.q, logits.k.shape[0], logits.bias is not None
    unit = storage_unit(q.dtype, upstream)
    if unit is not None:
        upstream = Upstream(*(None if x is None else x / unit for x in upstream))
    factor = logits.scale if unit is None else logits.scale * unit
    dscale = q.new_zeros((), dtype=torch.float32)
    dbias = q.new_zeros(n if with_bias else 0, dtype=torch.float32)
    products = Products(logits, factor, q.dtype, symmetric, with_dk)
    for first, block in products.blocks():
        sums, inner = write_gradient(logits, upstream, lse, target, column_weight, first, block)
        dscale = dscale + inner
        if with_bias:
            dbias = dbias + sums
    if unit is not None:
        dscale, dbias = dscale * unit, dbias * unit
    dq, dk = products.finish()
    return dq, dk, dscale, dbias


def storage_unit(dtype: torch.dtype, upstream: Iterable[Tensor | None]) -> Tensor | None:
    """What float16 gradients are multiples of: alone they may be too small for the format."""
    if dtype is not torch.float16:
        return None
    given = [x.abs().amax() for x in upstream if x is not None and x.numel()]
    if not given:
        return None
    largest = torch.stack(given).amax()
    return torch.where(largest > 0.0, largest / _HALF_RANGE, torch.ones_like(largest))


def write_gradient(
    logits: Logits,
    upstream: Upstream,
    lse: Tensor,
    target: Tensor | None,
    column_weight: Tensor | None,
    first: int,
    block: Tensor,
) -> tuple[Tensor, Tensor]:
    """Rows from `first` on into `block`; their sum, and the sum of their product with <q_i, k_j>.

    The former is empty without a bias.
    """
    q, k, with_bias = logits.q, logits.k, logits.bias is not None
    (m, features), n = q.shape, k.shape[0]
    tile = configurations.gradient(q.dtype, features)
    grid = (triton.cdiv(block.shape[0], tile.rows), triton.cdiv(n, tile.columns))
    # Zeros: there is no program's result for rows that do not count.
    sums = q.new_zeros(grid[0], n if with_bias else 0, dtype=torch.float32)
    inner = q.new_zeros(grid, dtype=torch.float32)
    offset_a, offset_b = exclusions(logits)
    with on_device(q):
        wrap_triton(_gradient_kernel)[grid](
            q,
            k,
            logits.scale,
            logits.bias,
            target,
            column_weight,
            logits.index,
            logits.count,
            upstream.lse,
            upstream.target_logit,
            upstream.weighted_sum,
            lse,
            block,
            sums,
            inner,
            first,
            m,
            n,
            features,
            block.stride(0),
            offset_a,
            offset_b,
            logits.softcap,
            HAS_BIAS=with_bias,
            HAS_WEIGHT=column_weight is not None,
            INDEXED=logits.index is not None,
            TERMS=target is not None,
            SOFTCAP=logits.softcap != 0.0,
            EXCLUDE=len(logits.exclude),
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return sums.sum(0), inner.sum()


@triton.jit
def _gradient_kernel(
    q,
    k,
    scale,
    bias,
    target,
    column_weight,
    index,
    count,
    grad_lse,
    grad_target,
    grad_sum,
    lse,
    out,
    sums,
    inner,
    first,
    row_count,
    column_count,
    features,
    pitch,
    offset_a,
    offset_b,
    softcap,
    HAS_BIAS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    INDEXED: tl.constexpr,
    TERMS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    EXCLUDE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One tile of G into `out`, its sums over the rows into `sums`, sum(G * products) to `inner`.

    `first` is the row of G that `out` starts with. Neighbouring programs share a tile of k.
    """
    row_block, column_block = tl.program_id(0), tl.program_id(1)
    local = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    rows = first + local
    counted = row_count
    if INDEXED:
        counted = tl.load(count).to(tl.int32)
        if first + row_block * BLOCK_M >= counted:
            return
    row_mask = rows < counted
    if INDEXED:
        rows = tl.load(index + rows, mask=row_mask, other=0)
    columns = column_block * BLOCK_N + tl.arange(0, BLOCK_N)
    column_mask = columns < column_count
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
    factor = tl.load(scale)
    capped = capped_logits(products, factor, bias, columns, column_mask, softcap, HAS_BIAS, SOFTCAP)
    logits = leave_out(
        capped, rows, columns, column_mask, column_count, offset_a, offset_b, EXCLUDE
    )
    shift = row_shift(tl.load(lse + rows, mask=row_mask, other=0.0))
    weight = tl.load(grad_lse + rows, mask=row_mask, other=0.0)
    gradient = tl.exp(logits - shift[:, None]) * weight[:, None]
    if HAS_WEIGHT:
        upstream = tl.load(grad_sum + rows, mask=row_mask, other=0.0)
        share = tl.load(column_weight + columns, mask=column_mask, other=0.0)
        gradient += upstream[:, None] * share[None, :]
    if TERMS:
        wanted = tl.load(target + rows, mask=row_mask, other=-1)
        upstream = tl.load(grad_target + rows, mask=row_mask, other=0.0)
        gradient += tl.where(columns[None, :] == wanted[:, None], upstream[:, None], 0.0)
    if SOFTCAP:
        slope = capped / softcap
        gradient *= 1.0 - slope * slope
    gradient = tl.where(row_mask[:, None] & column_mask[None, :], gradient, 0.0)

    write_tile(out, gradient, local, row_mask, columns, pitch)
    tl.store(inner + row_block * tl.num_programs(1) + column_block, tl.sum(gradient * products))
    if HAS_BIAS:
        at = sums + row_block.to(tl.int64) * column_count + columns
        tl.store(at, tl.sum(gradient, 0), mask=column_mask)
