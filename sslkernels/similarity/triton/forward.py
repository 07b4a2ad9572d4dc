"""One pass over the logits: what the losses need of each row.

A program owns a block of rows and walks over its share of the columns. Where there are few row
blocks the columns are split among several programs, whose partial results are put together in a
fixed order: the result is the same on every run.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import dataclasses

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.operators import on_device
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.tiles import (
    add_logits,
    capped_logits,
    finite_or_zero,
    leave_out,
    load_rows,
    tile_products,
)

_PROGRAMS = 1024
"""Columns are split until about so many programs run: a few waves on any GPU."""


@dataclasses.dataclass(frozen=True)
class Logits:
    """The implicit logits of a call: `cap(scale * <q_i, k_j> + bias_j)`.

    Without `index` all rows count. With it, its first `count` elements are the rows that do, and
    `count` stays on the device.
    """

    q: Tensor
    k: Tensor
    scale: Tensor
    bias: Tensor | None
    exclude: tuple[int, ...] = ()
    softcap: float = 0.0
    precision: str = "ieee"
    index: Tensor | None = None
    count: Tensor | None = None


def row_logsumexp(logits: Logits) -> Tensor:
    """lse [M] in float32."""
    return _row_terms(logits, None, None)[0]


def row_terms(logits: Logits, target: Tensor, column_weight: Tensor | None) -> tuple[Tensor, ...]:
    """lse, target logit, weighted sum and largest logit [M], zero in a row that does not count."""
    return _row_terms(logits, target, column_weight)


def exclusions(logits: Logits) -> tuple[int, int]:
    """The two offsets that a kernel takes, in [0, n)."""
    offsets = [offset % logits.k.shape[0] for offset in logits.exclude]
    first, second, *_ = (*offsets, 0, 0)
    return first, second


def _row_terms(
    logits: Logits, target: Tensor | None, column_weight: Tensor | None
) -> tuple[Tensor, ...]:
    q, k = logits.q, logits.k
    (m, features), n = q.shape, k.shape[0]
    kinds = 1 if target is None else 4
    if m == 0:
        return tuple(q.new_zeros(kinds, 0, dtype=torch.float32))
    tile = configurations.forward(q.dtype, features)
    row_blocks, column_tiles = triton.cdiv(m, tile.rows), triton.cdiv(n, tile.columns)
    splits = min(column_tiles, max(1, _PROGRAMS // row_blocks))
    tiles_each = triton.cdiv(column_tiles, splits)
    splits = triton.cdiv(column_tiles, tiles_each)
    allocate = torch.empty if logits.index is None else torch.zeros
    partial = allocate((kinds, splits, m), dtype=torch.float32, device=q.device)
    offset_a, offset_b = exclusions(logits)
    with on_device(q):
        wrap_triton(_row_terms_kernel)[(row_blocks, splits)](
            q,
            k,
            logits.scale,
            logits.bias,
            target,
            column_weight,
            logits.index,
            logits.count,
            partial,
            m,
            n,
            features,
            offset_a,
            offset_b,
            logits.softcap,
            tiles_each,
            HAS_BIAS=logits.bias is not None,
            HAS_WEIGHT=column_weight is not None,
            INDEXED=logits.index is not None,
            TERMS=target is not None,
            SOFTCAP=logits.softcap != 0.0,
            EXCLUDE=len(logits.exclude),
            WHOLE=features <= tile.inner,
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    if splits == 1:
        return tuple(partial[:, 0])
    lse, *others = partial
    lse = torch.logsumexp(lse, 0)
    if not others:
        return (lse,)
    assert target is not None
    lse = torch.where(target >= 0, lse, 0.0)  # log(splits) in a row that does not count
    target_logit, weighted_sum, largest = others
    return lse, target_logit.sum(0), weighted_sum.sum(0), largest.amax(0)


@triton.jit
def _row_terms_kernel(
    q,
    k,
    scale,
    bias,
    target,
    column_weight,
    index,
    count,
    partial,
    row_count,
    column_count,
    features,
    offset_a,
    offset_b,
    softcap,
    tiles_each,
    HAS_BIAS: tl.constexpr,
    HAS_WEIGHT: tl.constexpr,
    INDEXED: tl.constexpr,
    TERMS: tl.constexpr,
    SOFTCAP: tl.constexpr,
    EXCLUDE: tl.constexpr,
    WHOLE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """partial[kind, split, row] of BLOCK_M rows over `tiles_each` tiles of columns.

    WHOLE: a row fits into one tile, which is loaded once.
    """
    first_row, split = tl.program_id(0) * BLOCK_M, tl.program_id(1)
    rows = first_row + tl.arange(0, BLOCK_M)
    counted = row_count
    if INDEXED:
        counted = tl.load(count).to(tl.int32)
        if first_row >= counted:
            return
    row_mask = rows < counted
    if INDEXED:
        rows = tl.load(index + rows, mask=row_mask, other=0)
    factor = tl.load(scale)
    own = load_rows(q, rows, row_mask, 0, features, BLOCK_D, MASK_D) if WHOLE else q
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    if TERMS:
        wanted = tl.load(target + rows, mask=row_mask, other=-1)
        target_logit = tl.zeros((BLOCK_M,), tl.float32)
        weighted_sum = tl.zeros((BLOCK_M,), tl.float32)
    stop = tl.minimum((split + 1) * tiles_each * BLOCK_N, column_count)
    for first_column in range(split * tiles_each * BLOCK_N, stop, BLOCK_N):
        columns = first_column + tl.arange(0, BLOCK_N)
        column_mask = columns < column_count
        products = tile_products(
            own,
            k,
            rows,
            row_mask,
            columns,
            column_mask,
            features,
            WHOLE,
            BLOCK_M,
            BLOCK_N,
            BLOCK_D,
            MASK_D,
            PRECISION,
        )
        logits = capped_logits(
            products, factor, bias, columns, column_mask, softcap, HAS_BIAS, SOFTCAP
        )
        if TERMS:
            hit = columns[None, :] == wanted[:, None]
            target_logit += tl.sum(tl.where(hit, logits, 0.0), 1)
            if HAS_WEIGHT:
                weight = tl.load(column_weight + columns, mask=column_mask, other=0.0)
                weighted_sum += tl.sum(logits * weight[None, :], 1)
        logits = leave_out(
            logits, rows, columns, column_mask, column_count, offset_a, offset_b, EXCLUDE
        )
        largest, total = add_logits(largest, total, logits)
    out = partial + split.to(tl.int64) * row_count + rows
    tl.store(out, finite_or_zero(largest) + tl.log(total), mask=row_mask)
    if TERMS:
        kind = tl.num_programs(1).to(tl.int64) * row_count
        tl.store(out + kind, target_logit, mask=row_mask)
        tl.store(out + 2 * kind, weighted_sum, mask=row_mask)
        # The maximum overlooks NaN, the sum does not.
        tl.store(out + 3 * kind, tl.where(total == total, largest, total), mask=row_mask)
