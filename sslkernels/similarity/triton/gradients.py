"""Gradients of any terms of the logits, for any number of features, the same on every run.

The gradient G of the logits is written for as many rows at a time as a workspace holds, in the
dtype of the inputs; dq = scale G K and dk = scale G^T Q are then plain products. Three products in
all, one of them the logits once more.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

from typing import NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.forward import Logits, exclusions, on_device
from sslkernels.similarity.triton.tiles import (
    capped_logits,
    dot,
    leave_out,
    load_rows,
    row_products,
    row_shift,
)

WORKSPACE_MIB = 64.0
"""Largest part of G that exists at a time: about the size of a GPU's second-level cache."""

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
    q, k, bias = logits.q, logits.k, logits.bias
    (m, features), n = q.shape, k.shape[0]
    unit = storage_unit(q.dtype, upstream)
    if unit is not None:
        parts = (None if x is None else x / unit for x in upstream)
        upstream = Upstream(*parts)
    factor = logits.scale if unit is None else logits.scale * unit
    tile = configurations.gradient(q.dtype, features)
    pitch = triton.cdiv(n, 16) * 16  # rows that vector loads can start at
    budget = int(WORKSPACE_MIB * 2**20) // (pitch * q.element_size())
    blocks = min(triton.cdiv(m, tile.rows), max(1, budget // tile.rows))
    chunk = max(1, blocks) * tile.rows
    workspace = q.new_empty(chunk, pitch)
    sums = q.new_zeros(triton.cdiv(chunk, tile.rows), pitch, dtype=torch.float32)
    inner = q.new_zeros(sums.shape[0], triton.cdiv(n, tile.columns), dtype=torch.float32)
    dbias = q.new_zeros(0 if bias is None else n, dtype=torch.float32)
    dscale = q.new_zeros((), dtype=torch.float32)

    one_pass = chunk >= m and not symmetric
    kept = q.dtype if one_pass else torch.float32
    dq = q.new_zeros(m, features, dtype=torch.float32 if symmetric else q.dtype)
    dk = dq if symmetric else k.new_zeros(n if with_dk else 0, features, dtype=kept)
    for first in range(0, m, chunk):
        block = workspace[: min(chunk, m - first)]
        _write_tiles(logits, upstream, lse, target, column_weight, first, block, sums, inner)
        _multiply(block, k, dq, factor, logits, first, transpose=False, accumulate=symmetric)
        if symmetric or with_dk:
            _multiply(block, q, dk, factor, logits, first, transpose=True, accumulate=not one_pass)
        dscale = dscale + inner.sum()
        if bias is not None:
            dbias = dbias + sums[:, :n].sum(0)
        if first + chunk < m:
            sums.zero_()
            inner.zero_()
    if unit is not None:
        dscale, dbias = dscale * unit, dbias * unit
    dk = q.new_empty(0, features) if symmetric else dk.to(k.dtype)
    return dq.to(q.dtype), dk, dscale, dbias


def storage_unit(dtype: torch.dtype, upstream: Upstream) -> Tensor | None:
    """What float16 gradients are multiples of: alone they may be too small for the format."""
    if dtype is not torch.float16:
        return None
    given = [x.abs().amax() for x in upstream if x is not None and x.numel()]
    if not given:
        return None
    largest = torch.stack(given).amax()
    return torch.where(largest > 0.0, largest / _HALF_RANGE, torch.ones_like(largest))


def _write_tiles(
    logits: Logits,
    upstream: Upstream,
    lse: Tensor,
    target: Tensor | None,
    column_weight: Tensor | None,
    first: int,
    block: Tensor,
    sums: Tensor,
    inner: Tensor,
) -> None:
    q, k = logits.q, logits.k
    (m, features), n = q.shape, k.shape[0]
    tile = configurations.gradient(q.dtype, features)
    grid = (triton.cdiv(block.shape[0], tile.rows), triton.cdiv(n, tile.columns))
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
            HAS_BIAS=logits.bias is not None,
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


def _multiply(
    block: Tensor,
    other: Tensor,
    out: Tensor,
    factor: Tensor,
    logits: Logits,
    first: int,
    transpose: bool,
    accumulate: bool,
) -> None:
    """dq = factor G K, or with `transpose` dk (+)= factor G^T Q, for the rows of `block`."""
    tile, features = configurations.product(other.dtype), other.shape[1]
    n = logits.k.shape[0]
    rows, inner = (n, block.shape[0]) if transpose else (block.shape[0], n)
    strides = (1, block.stride(0)) if transpose else (block.stride(0), 1)
    grid = (triton.cdiv(rows, tile.rows), triton.cdiv(features, tile.columns))
    with on_device(out):
        wrap_triton(_product_kernel)[grid](
            block,
            other,
            out,
            factor,
            logits.index,
            logits.count,
            first,
            rows,
            inner,
            features,
            *strides,
            TRANSPOSED=transpose,
            INDEXED=logits.index is not None,
            ACCUMULATE=accumulate,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_K=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )


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

    # All of the row's pitch is written, so that nobody meets what was there before.
    pointers = out + local.to(tl.int64)[:, None] * pitch + columns[None, :]
    in_row = row_mask[:, None] & (columns < pitch)[None, :]
    tl.store(pointers, gradient.to(out.dtype.element_ty), mask=in_row)
    tl.store(inner + row_block * tl.num_programs(1) + column_block, tl.sum(gradient * products))
    if HAS_BIAS:
        at = sums + row_block.to(tl.int64) * pitch + columns
        tl.store(at, tl.sum(gradient, 0), mask=column_mask)


@triton.jit
def _product_kernel(
    a,
    b,
    out,
    factor,
    index,
    count,
    first,
    row_count,
    inner_count,
    features,
    row_stride,
    inner_stride,
    TRANSPOSED: tl.constexpr,
    INDEXED: tl.constexpr,
    ACCUMULATE: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    """out (+)= factor * a @ b; a is a block of G from row `first` on, or its transpose.

    The rows of G are those of dq, or, transposed, those of q which are summed over. With INDEXED
    they go through `index`, and only the first `count` of them exist.
    """
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    if INDEXED:
        left = tl.maximum(tl.load(count).to(tl.int32) - first, 0)
        if TRANSPOSED:
            inner_count = tl.minimum(inner_count, left)
        else:
            row_count = tl.minimum(row_count, left)
            if tl.program_id(0) * BLOCK_M >= row_count:
                return
    row_mask = rows < row_count
    features_at = tl.program_id(1) * BLOCK_N
    accumulator = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, inner_count, BLOCK_K):
        inner = start + tl.arange(0, BLOCK_K)
        inner_mask = inner < inner_count
        pointers = (
            a + rows.to(tl.int64)[:, None] * row_stride + inner.to(tl.int64)[None, :] * inner_stride
        )
        left_tile = tl.load(pointers, mask=row_mask[:, None] & inner_mask[None, :], other=0.0)
        b_rows = inner
        if TRANSPOSED:
            b_rows = first + inner
            if INDEXED:
                b_rows = tl.load(index + b_rows, mask=inner_mask, other=0)
        right_tile = load_rows(b, b_rows, inner_mask, features_at, features, BLOCK_N, True)
        accumulator = dot(left_tile, right_tile, accumulator, PRECISION)
    accumulator *= tl.load(factor)
    if not TRANSPOSED:
        rows = first + rows
        if INDEXED:
            rows = tl.load(index + rows, mask=row_mask, other=0)
    columns = features_at + tl.arange(0, BLOCK_N)
    pointers = out + rows.to(tl.int64)[:, None] * features + columns[None, :]
    mask = row_mask[:, None] & (columns < features)[None, :]
    if ACCUMULATE:
        accumulator += tl.load(pointers, mask=mask, other=0.0)
    tl.store(pointers, accumulator.to(out.dtype.element_ty), mask=mask)
