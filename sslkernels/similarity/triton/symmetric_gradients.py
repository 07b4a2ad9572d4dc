"""Gradients of rows against themselves: a tile of logits has one for the rows of both its sides.

Counted in products of the full matrix, 0.5 for the logits once more and 1.0 where each tile on and
above the diagonal adds to both sides; 1.0 and 1.0 where a program owns some rows and walks over all
columns, which gives the same bits on every run.
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
from sslkernels.similarity.triton.both_sides import pair_gradient, pair_logits
from sslkernels.similarity.triton.forward import Logits, exclusions
from sslkernels.similarity.triton.gradients import Upstream, storage_unit
from sslkernels.similarity.triton.tiles import dot, load_rows, row_products, row_shift


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
    sums = owned(logits, grad, lse) if same_every_run else added(logits, grad, lse)
    dq, dscale = (sums[0] * factor).to(q.dtype), sums[1]
    dscale = dscale if unit is None else dscale * unit
    return dq, q.new_empty(0, features), dscale, grad.new_empty(0)


def added(logits: Logits, grad: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
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


def owned(logits: Logits, grad: Tensor, lse: Tensor) -> tuple[Tensor, Tensor]:
    """As `added`, by programs that walk over all columns of the rows that they own."""
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
    logits = pair_logits(
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
        logits = pair_logits(
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
