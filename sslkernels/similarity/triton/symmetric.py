"""Rows against themselves, as in NT-Xent: each pair of rows is met once.

The logits are symmetric, s_ij = s_ji, so the tiles on and above the diagonal hold them all. A tile
gives sums over its rows and over its columns from one exponential per pair. Counted in products of
the full matrix: 0.5 forward; backward 0.5 for the logits once more and 1.0 to apply the gradient of
a tile to both sides, by atomic additions, or 2.0 without them.
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
from sslkernels.similarity.triton.both_sides import pair_gradient, tile_logsumexp
from sslkernels.similarity.triton.forward import Logits, exclusions
from sslkernels.similarity.triton.gradients import Upstream, storage_unit
from sslkernels.similarity.triton.tiles import (
    dot,
    leave_out,
    load_rows,
    row_products,
    row_shift,
    tile_products,
)

_LARGEST_PARTIAL_MIB = 256.0
"""Beyond this much for the sums of every tile, the rows go through the kernels of `forward`."""

_LONGEST_RUN = 8
"""A program of the forward walks over so many tiles, with its rows in registers."""

_PROGRAMS = 512
"""Runs are shorter where there would be fewer programs: a wave or more on any GPU."""


def covers(logits: Logits) -> bool:
    """Whether the logits are symmetric, exclusions included, and few enough."""
    m = logits.q.shape[0]
    if logits.bias is not None or m == 0:
        return False
    tile = configurations.symmetric(logits.q.dtype, logits.q.shape[1])
    small = triton.cdiv(m, tile.rows) * m * 4 <= _LARGEST_PARTIAL_MIB * 2**20
    offsets = {offset % m for offset in logits.exclude}
    return small and offsets == {-offset % m for offset in offsets}


def row_logsumexp(logits: Logits) -> Tensor:
    """lse [M] in float32."""
    q = logits.q
    m, features = q.shape
    tile = configurations.symmetric(q.dtype, features)
    blocks = triton.cdiv(m, tile.rows)
    run = max(1, min(_LONGEST_RUN, blocks * (blocks + 1) // 2 // _PROGRAMS))
    partial = torch.empty((blocks, m), dtype=torch.float32, device=q.device)
    with on_device(q):
        wrap_triton(_forward_kernel)[(triton.cdiv(blocks, run), blocks)](
            q,
            logits.scale,
            partial,
            m,
            blocks,
            run,
            features,
            *exclusions(logits),
            EXCLUDE=len(logits.exclude),
            WHOLE=features <= tile.inner,
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK=tile.rows,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return torch.logsumexp(partial, 0)


def gradients(
    logits: Logits, grad: Tensor, lse: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor] | None:
    """dq, dk (empty), dscale, dbias (empty) of sum_i grad_i * lse_i.

    None where there is no way that gives the same result on every run, and torch asks for one.
    """
    q = logits.q
    features = q.shape[1]
    same_every_run = torch.are_deterministic_algorithms_enabled()
    if same_every_run and features > configurations.widest_owned(q.dtype):
        return None
    unit = storage_unit(q.dtype, Upstream(grad))
    grad = grad if unit is None else grad / unit
    factor = logits.scale if unit is None else logits.scale * unit
    sums = _owned(logits, grad, lse) if same_every_run else _added(logits, grad, lse)
    dq, dscale = (sums[0] * factor).to(q.dtype), sums[1]
    dscale = dscale if unit is None else dscale * unit
    return dq, q.new_empty(0, features), dscale, grad.new_empty(0)


def _added(logits: Logits, grad: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """dq / scale and dscale; the tiles above the diagonal add to the rows of both their sides."""
    q = logits.q
    m, features = q.shape
    tile = configurations.added(q.dtype, features)
    blocks = triton.cdiv(m, tile.rows)
    grid = (blocks + 1, triton.cdiv(blocks, 2))
    dq = torch.zeros((m, features), dtype=torch.float32, device=q.device)
    inner = torch.zeros(grid, dtype=torch.float32, device=q.device)
    with on_device(q):
        wrap_triton(_add_kernel)[grid](
            q,
            logits.scale,
            grad,
            lse,
            dq,
            inner,
            m,
            blocks,
            features,
            *exclusions(logits),
            EXCLUDE=len(logits.exclude),
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK=tile.rows,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return dq, inner.sum()


def _owned(logits: Logits, grad: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """As `_added`, by programs that walk over all columns of the rows that they own."""
    q = logits.q
    m, features = q.shape
    tile = configurations.owned(q.dtype)
    blocks = triton.cdiv(m, tile.rows)
    width = max(16, triton.next_power_of_2(features))
    dq = torch.empty((m, features), dtype=torch.float32, device=q.device)
    inner = torch.empty(blocks, dtype=torch.float32, device=q.device)
    with on_device(q):
        wrap_triton(_own_kernel)[(blocks,)](
            q,
            logits.scale,
            grad,
            lse,
            dq,
            inner,
            m,
            features,
            *exclusions(logits),
            EXCLUDE=len(logits.exclude),
            MASK_D=features % width != 0,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            WIDTH=width,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return dq, inner.sum()


@triton.jit
def _upper_tile(blocks):
    """(row block, column block) on or above the diagonal; of this program; past the end: none.

    The grid is [blocks + 1, blocks / 2]: row y of the triangle, with `blocks - y` tiles, shares a
    line of it with row `blocks - 1 - y`, which has the other `y + 1`. The middle row of an odd
    number has a line for itself, half of which is past the end.
    """
    x, y = tl.program_id(0), tl.program_id(1)
    beyond = x >= blocks - y
    row = tl.where(beyond, blocks - 1 - y, y)
    column = tl.where(beyond, x - 1, y + x)
    past = beyond & (2 * y + 1 == blocks)
    return row, column, past


@triton.jit
def _pair_logits(
    products, factor, rows, row_mask, columns, column_mask, count, offset_a, offset_b, EXCLUDE
):
    logits = leave_out(
        products * factor, rows, columns, column_mask, count, offset_a, offset_b, EXCLUDE
    )
    return tl.where(row_mask[:, None], logits, float("-inf"))


@triton.jit
def _forward_kernel(
    q,
    scale,
    partial,
    count,
    blocks,
    run,
    features,
    offset_a,
    offset_b,
    EXCLUDE: tl.constexpr,
    WHOLE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """partial[b, i]: log-sum-exp of row i over the columns of block b; a tile gives two of them.

    A program has the tiles of one row block and of `run` column blocks that are not below the
    diagonal. WHOLE: a row fits into one tile, which is loaded once.
    """
    row_block = tl.program_id(1)
    first = tl.maximum(tl.program_id(0) * run, row_block)
    stop = tl.minimum((tl.program_id(0) + 1) * run, blocks)
    if first >= stop:
        return
    rows = row_block * BLOCK + tl.arange(0, BLOCK)
    row_mask = rows < count
    factor = tl.load(scale)
    own = load_rows(q, rows, row_mask, 0, features, BLOCK_D, MASK_D) if WHOLE else q
    for column_block in range(first, stop):
        columns = column_block * BLOCK + tl.arange(0, BLOCK)
        column_mask = columns < count
        products = tile_products(
            own,
            q,
            rows,
            row_mask,
            columns,
            column_mask,
            features,
            WHOLE,
            BLOCK,
            BLOCK,
            BLOCK_D,
            MASK_D,
            PRECISION,
        )
        logits = _pair_logits(
            products,
            factor,
            rows,
            row_mask,
            columns,
            column_mask,
            count,
            offset_a,
            offset_b,
            EXCLUDE,
        )
        row_lse, column_lse = tile_logsumexp(logits, row_mask, column_mask)
        below = partial + tl.full((), column_block, tl.int64) * count + rows
        tl.store(below, row_lse, mask=row_mask)
        if row_block != column_block:
            beside = partial + row_block.to(tl.int64) * count + columns
            tl.store(beside, column_lse, mask=column_mask)


@triton.jit
def _add_kernel(
    q,
    scale,
    grad,
    lse,
    dq,
    inner,
    count,
    blocks,
    features,
    offset_a,
    offset_b,
    EXCLUDE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """The gradient of one tile, added to the rows of dq on both its sides."""
    row_block, column_block, past = _upper_tile(blocks)
    if past:
        return
    rows = row_block * BLOCK + tl.arange(0, BLOCK)
    columns = column_block * BLOCK + tl.arange(0, BLOCK)
    row_mask, column_mask = rows < count, columns < count
    products = row_products(
        q,
        q,
        rows,
        row_mask,
        columns,
        column_mask,
        features,
        BLOCK,
        BLOCK,
        BLOCK_D,
        MASK_D,
        PRECISION,
    )
    logits = _pair_logits(
        products,
        tl.load(scale),
        rows,
        row_mask,
        columns,
        column_mask,
        count,
        offset_a,
        offset_b,
        EXCLUDE,
    )
    gradient = pair_gradient(
        logits,
        tl.load(grad + rows, mask=row_mask, other=0.0),
        row_shift(tl.load(lse + rows, mask=row_mask, other=0.0)),
        row_mask,
        tl.load(grad + columns, mask=column_mask, other=0.0),
        row_shift(tl.load(lse + columns, mask=column_mask, other=0.0)),
        column_mask,
    )
    off_diagonal = row_block != column_block
    both = tl.where(off_diagonal, 1.0, 0.5)  # a tile on the diagonal meets each pair twice
    tile = tl.program_id(0) * tl.num_programs(1) + tl.program_id(1)
    tl.store(inner + tile, both * tl.sum(gradient * products))
    stored = gradient.to(q.dtype.element_ty)
    for start in range(0, features, BLOCK_D):
        at = start + tl.arange(0, BLOCK_D)
        zero = tl.zeros((BLOCK, BLOCK_D), tl.float32)
        others = load_rows(q, columns, column_mask, start, features, BLOCK_D, MASK_D)
        out = dq + rows.to(tl.int64)[:, None] * features + at[None, :]
        mask = row_mask[:, None] & (at < features)[None, :]
        tl.atomic_add(out, dot(stored, others, zero, PRECISION), mask=mask, sem="relaxed")
        if off_diagonal:
            own = load_rows(q, rows, row_mask, start, features, BLOCK_D, MASK_D)
            out = dq + columns.to(tl.int64)[:, None] * features + at[None, :]
            mask = column_mask[:, None] & (at < features)[None, :]
            turned = dot(tl.trans(stored), own, zero, PRECISION)
            tl.atomic_add(out, turned, mask=mask, sem="relaxed")


@triton.jit
def _own_kernel(
    q,
    scale,
    grad,
    lse,
    dq,
    inner,
    count,
    features,
    offset_a,
    offset_b,
    EXCLUDE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """All of the gradient of BLOCK_M rows, from every column."""
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = rows < count
    own = load_rows(q, rows, row_mask, 0, features, WIDTH, MASK_D)
    row_grad = tl.load(grad + rows, mask=row_mask, other=0.0)
    row_lse = row_shift(tl.load(lse + rows, mask=row_mask, other=0.0))
    factor = tl.load(scale)
    accumulator = tl.zeros((BLOCK_M, WIDTH), tl.float32)
    inner_sum = tl.zeros((BLOCK_M,), tl.float32)
    for start in range(0, count, BLOCK_N):
        columns = start + tl.arange(0, BLOCK_N)
        column_mask = columns < count
        others = load_rows(q, columns, column_mask, 0, features, WIDTH, MASK_D)
        products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        products = dot(own, tl.trans(others), products, PRECISION)
        logits = _pair_logits(
            products,
            factor,
            rows,
            row_mask,
            columns,
            column_mask,
            count,
            offset_a,
            offset_b,
            EXCLUDE,
        )
        gradient = pair_gradient(
            logits,
            row_grad,
            row_lse,
            row_mask,
            tl.load(grad + columns, mask=column_mask, other=0.0),
            row_shift(tl.load(lse + columns, mask=column_mask, other=0.0)),
            column_mask,
        )
        inner_sum += tl.sum(gradient * products, 1)
        accumulator = dot(gradient.to(q.dtype.element_ty), others, accumulator, PRECISION)
    at = tl.arange(0, WIDTH)
    out = dq + rows.to(tl.int64)[:, None] * features + at[None, :]
    tl.store(out, accumulator, mask=row_mask[:, None] & (at < features)[None, :])
    tl.store(inner + tl.program_id(0), 0.5 * tl.sum(inner_sum))  # each pair was met twice
