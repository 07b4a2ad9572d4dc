"""Rows against themselves, as in NT-Xent: each pair of rows is met once.

The logits are symmetric, s_ij = s_ji, so the tiles on and above the diagonal hold them all. A tile
gives sums over its rows and over its columns from one exponential per pair, for half the products
of the full matrix.
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
from sslkernels.similarity.triton.both_sides import pair_logits, tile_logsumexp
from sslkernels.similarity.triton.forward import Logits, exclusions
from sslkernels.similarity.triton.tiles import load_rows, tile_products

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
        row_lse, column_lse = tile_logsumexp(logits, row_mask, column_mask)
        below = partial + tl.full((), column_block, tl.int64) * count + rows
        tl.store(below, row_lse, mask=row_mask)
        if row_block != column_block:
            beside = partial + row_block.to(tl.int64) * count + columns
            tl.store(beside, column_lse, mask=column_mask)
