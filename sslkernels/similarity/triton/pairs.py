"""The softmax of the logits both ways: a tile gives the sums of its rows and of its columns.

A program of the forward owns a block of rows and walks over its share of the columns; each logit is
computed once, and one exponential serves its row and its column where `both_sides` can. Partial
results are put together in a fixed order. 1 product forward, 3 backward.
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

from sslkernels.operators import on_device
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.both_sides import pair_gradient, tile_logsumexp
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.gradients import storage_unit
from sslkernels.similarity.triton.products import Products
from sslkernels.similarity.triton.tiles import (
    add_exponents,
    finite_or_zero,
    load_rows,
    row_products,
    row_shift,
    tile_products,
    write_tile,
)

_LARGEST_PARTIAL_MIB = 64.0
"""For the column sums of every block of rows; beyond it rows are taken a part at a time."""

_PROGRAMS = 512
"""Columns are split until about so many programs run: a wave or more on any GPU."""


class PairGradients(NamedTuple):
    """Upstream gradients in float32 of the lse of rows [M] and columns [n], and of pairs [M]."""

    row: Tensor
    column: Tensor
    pair: Tensor


def pair_terms(logits: Logits, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """The lse of rows [M] and of columns [n], and the logits of the pairs (i, first + i) [M]."""
    q, n = logits.q, logits.k.shape[0]
    m, features = q.shape
    tile = configurations.symmetric(q.dtype, features)
    blocks = max(1, int(_LARGEST_PARTIAL_MIB * 2**20) // (4 * max(1, n)))
    column_lse = q.new_full((n,), float("-inf"), dtype=torch.float32)
    none = q.new_empty(0, dtype=torch.float32)
    row_lse, pair_logit = [none], [none]
    for start in range(0, m, blocks * tile.rows):
        part = q[start : start + blocks * tile.rows]
        rows, columns, found = _partial_terms(logits, part, first + start)
        row_lse.append(torch.logsumexp(rows, 0))
        column_lse = torch.logaddexp(column_lse, torch.logsumexp(columns, 0))
        pair_logit.append(found)
    return torch.cat(row_lse), column_lse, torch.cat(pair_logit)


def _partial_terms(logits: Logits, q: Tensor, first: int) -> tuple[Tensor, Tensor, Tensor]:
    """Of some rows: lse over each split of the columns, of columns over each block, and pairs."""
    n = logits.k.shape[0]
    m, features = q.shape
    tile = configurations.symmetric(q.dtype, features)
    row_blocks, column_tiles = triton.cdiv(m, tile.rows), triton.cdiv(n, tile.columns)
    splits = min(column_tiles, max(1, _PROGRAMS // row_blocks))
    tiles_each = triton.cdiv(column_tiles, splits)
    splits = triton.cdiv(column_tiles, tiles_each)
    row_lse = q.new_empty(splits, m, dtype=torch.float32)
    column_lse = q.new_empty(row_blocks, n, dtype=torch.float32)
    pair_logit = q.new_empty(m, dtype=torch.float32)
    with on_device(q):
        wrap_triton(_pair_terms_kernel)[(row_blocks, splits)](
            q,
            logits.k,
            logits.scale,
            row_lse,
            column_lse,
            pair_logit,
            m,
            n,
            features,
            first,
            tiles_each,
            WHOLE=features <= tile.inner,
            MASK_D=features % tile.inner != 0,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            BLOCK_D=tile.inner,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    return row_lse, column_lse, pair_logit


def gradients(
    logits: Logits, first: int, upstream: PairGradients, row_lse: Tensor, column_lse: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """dq, dk, dscale of the terms' sum, weighted by the upstream gradients."""
    q, n = logits.q, logits.k.shape[0]
    m, features = q.shape
    unit = storage_unit(q.dtype, upstream)
    if unit is not None:
        upstream = PairGradients(*(x / unit for x in upstream))
    factor = logits.scale if unit is None else logits.scale * unit
    tile = configurations.gradient(q.dtype, features)
    dscale = q.new_zeros((), dtype=torch.float32)
    products = Products(logits, factor, q.dtype)
    for start, block in products.blocks():
        grid = (triton.cdiv(block.shape[0], tile.rows), triton.cdiv(n, tile.columns))
        inner = q.new_empty(grid, dtype=torch.float32)
        with on_device(q):
            wrap_triton(_pair_gradient_kernel)[grid](
                q,
                logits.k,
                logits.scale,
                *upstream,
                row_lse,
                column_lse,
                block,
                inner,
                start,
                m,
                n,
                features,
                block.stride(0),
                first,
                MASK_D=features % tile.inner != 0,
                PRECISION=logits.precision,
                BLOCK_M=tile.rows,
                BLOCK_N=tile.columns,
                BLOCK_D=tile.inner,
                num_warps=tile.warps,
                num_stages=tile.stages,
            )
        dscale = dscale + inner.sum()
    dq, dk = products.finish()
    return dq, dk, dscale if unit is None else dscale * unit


@triton.jit
def _pair_terms_kernel(
    q,
    k,
    scale,
    row_lse,
    column_lse,
    pair_logit,
    row_count,
    column_count,
    features,
    first,
    tiles_each,
    WHOLE: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """row_lse[split, row] and column_lse[row block, column] of BLOCK_M rows and `tiles_each` tiles.

    A pair belongs to the program that meets it. WHOLE: a row fits into one tile, which is loaded
    once.
    """
    row_block, split = tl.program_id(0), tl.program_id(1)
    rows = row_block * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = rows < row_count
    factor = tl.load(scale)
    own = load_rows(q, rows, row_mask, 0, features, BLOCK_D, MASK_D) if WHOLE else q
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
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
        logits = products * factor
        # A few tiles of a row have pairs, and only they look for them.
        partner = row_block * BLOCK_M + first
        if (partner < first_column + BLOCK_N) & (first_column < partner + BLOCK_M):
            wanted = rows + first
            hit = columns[None, :] == wanted[:, None]
            here = (wanted >= first_column) & (wanted < first_column + BLOCK_N)
            found = tl.sum(tl.where(hit, logits, 0.0), 1)
            tl.store(pair_logit + rows, found, mask=row_mask & here)
        logits = tl.where(row_mask[:, None] & column_mask[None, :], logits, float("-inf"))
        of_rows, of_columns = tile_logsumexp(logits, row_mask, column_mask)
        largest, total = add_exponents(largest, total, of_rows)
        out = column_lse + row_block.to(tl.int64) * column_count + columns
        tl.store(out, of_columns, mask=column_mask)
    out = row_lse + split.to(tl.int64) * row_count + rows
    tl.store(out, finite_or_zero(largest) + tl.log(total), mask=row_mask)


@triton.jit
def _pair_gradient_kernel(
    q,
    k,
    scale,
    grad_row,
    grad_column,
    grad_pair,
    row_lse,
    column_lse,
    out,
    inner,
    start,
    row_count,
    column_count,
    features,
    pitch,
    first,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_D: tl.constexpr,
):
    """One tile of the gradient of the logits into `out`, its sum times <q_i, k_j> to `inner`.

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
    gradient = pair_gradient(
        products * tl.load(scale),
        tl.load(grad_row + rows, mask=row_mask, other=0.0),
        row_shift(tl.load(row_lse + rows, mask=row_mask, other=0.0)),
        row_mask,
        tl.load(grad_column + columns, mask=column_mask, other=0.0),
        row_shift(tl.load(column_lse + columns, mask=column_mask, other=0.0)),
        column_mask,
    )
    upstream = tl.load(grad_pair + rows, mask=row_mask, other=0.0)
    hit = columns[None, :] == (rows + first)[:, None]
    gradient += tl.where(hit, upstream[:, None], 0.0)
    write_tile(out, gradient, local, row_mask, columns, pitch)
    tl.store(inner + row_block * tl.num_programs(1) + column_block, tl.sum(gradient * products))
