"""Rows against keys that want no gradient: their log-sum-exp, and the key that each row expects.

A program owns a block of rows and walks over its share of the keys. A tile of keys is loaded once
and multiplied twice: by the rows, and by the exponentials of the logits, which are relative to the
largest that the row has met. The keys are split among so many programs that there is work for a
GPU, and their results are put together in a fixed order. 2 products; 3 for rows that are too wide
to be kept, which get the log-sum-exp first.
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
from sslkernels.similarity.triton.forward import Logits, row_logsumexp
from sslkernels.similarity.triton.gradients import Upstream, storage_unit, write_gradient
from sslkernels.similarity.triton.products import Products
from sslkernels.similarity.triton.tiles import (
    capped_logits,
    dot,
    finite_or_zero,
    load_rows,
)

_PROGRAMS = 256
"""Keys are split until about so many programs run: each has a result as large as its rows."""


def expected_keys(logits: Logits) -> tuple[Tensor, Tensor]:
    """lse [M], and `sum_j exp(s_ij - lse_i) k_j` [M, D], both in float32."""
    if logits.q.shape[1] > configurations.widest_owned(logits.q.dtype):
        return _in_two_passes(logits)
    return _in_one_pass(logits)


def _in_one_pass(logits: Logits) -> tuple[Tensor, Tensor]:
    q, n = logits.q, logits.k.shape[0]
    m, features = q.shape
    tile = configurations.kept(q.dtype)
    row_blocks = triton.cdiv(m, tile.rows)
    column_tiles = max(1, triton.cdiv(n, tile.columns))
    splits = min(column_tiles, max(1, _PROGRAMS // max(1, row_blocks)))
    tiles_each = triton.cdiv(column_tiles, splits)
    splits = triton.cdiv(column_tiles, tiles_each)
    width = max(16, triton.next_power_of_2(features))
    lse = q.new_empty(splits, m, dtype=torch.float32)
    mean_key = q.new_empty(splits, m, features, dtype=torch.float32)
    if m == 0:
        return lse[0], mean_key[0]
    with on_device(q):
        wrap_triton(_expected_keys_kernel)[(row_blocks, splits)](
            q,
            logits.k,
            logits.scale,
            logits.bias,
            lse,
            mean_key,
            m,
            n,
            features,
            tiles_each,
            HAS_BIAS=logits.bias is not None,
            MASK_D=features != width,
            PRECISION=logits.precision,
            BLOCK_M=tile.rows,
            BLOCK_N=tile.columns,
            WIDTH=width,
            num_warps=tile.warps,
            num_stages=tile.stages,
        )
    if splits == 1:
        return lse[0], mean_key[0]
    total = torch.logsumexp(lse, 0)
    # Where every logit is -inf: exp(-inf - 0) is the zero that it wants.
    share = (lse - total.masked_fill(total == float("-inf"), 0.0)).exp()
    return total, mean_key.mul_(share[:, :, None]).sum(0)


def _in_two_passes(logits: Logits) -> tuple[Tensor, Tensor]:
    lse = row_logsumexp(logits)
    one = torch.ones_like(lse)
    unit = storage_unit(logits.q.dtype, [one])
    factor = lse.new_ones(()) if unit is None else unit
    products = Products(logits, factor, torch.float32, with_dk=False)
    for first, block in products.blocks():
        write_gradient(logits, Upstream(one / factor), lse, None, None, first, block)
    return lse, products.finish()[0]


@triton.jit
def _expected_keys_kernel(
    q,
    k,
    scale,
    bias,
    lse,
    mean_key,
    row_count,
    column_count,
    features,
    tiles_each,
    HAS_BIAS: tl.constexpr,
    MASK_D: tl.constexpr,
    PRECISION: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    WIDTH: tl.constexpr,
):
    """lse[split, row] and mean_key[split, row] of BLOCK_M rows over `tiles_each` tiles of keys."""
    split = tl.program_id(1)
    rows = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    row_mask = rows < row_count
    own = load_rows(q, rows, row_mask, 0, features, WIDTH, MASK_D)
    factor = tl.load(scale)
    largest = tl.full((BLOCK_M,), float("-inf"), tl.float32)
    total = tl.zeros((BLOCK_M,), tl.float32)
    weighted = tl.zeros((BLOCK_M, WIDTH), tl.float32)
    stop = tl.minimum((split + 1) * tiles_each * BLOCK_N, column_count)
    for first_column in range(split * tiles_each * BLOCK_N, stop, BLOCK_N):
        columns = first_column + tl.arange(0, BLOCK_N)
        column_mask = columns < column_count
        keys = load_rows(k, columns, column_mask, 0, features, WIDTH, MASK_D)
        products = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
        products = dot(own, tl.trans(keys), products, PRECISION)
        logits = capped_logits(products, factor, bias, columns, column_mask, 0.0, HAS_BIAS, False)
        logits = tl.where(column_mask[None, :], logits, float("-inf"))
        new = tl.maximum(largest, tl.max(logits, 1))
        shift = finite_or_zero(new)
        weights = tl.exp(logits - shift[:, None])
        decay = tl.exp(largest - shift)
        total = total * decay + tl.sum(weights, 1)
        weighted *= decay[:, None]
        weighted = dot(weights.to(k.dtype.element_ty), keys, weighted, PRECISION)
        largest = new
    at = split.to(tl.int64) * row_count + rows
    tl.store(lse + at, finite_or_zero(largest) + tl.log(total), mask=row_mask)
    weighted /= tl.where(total == 0.0, 1.0, total)[:, None]  # no key at all: it expects zero
    features_at = tl.arange(0, WIDTH)
    mask = row_mask[:, None] & (features_at < features)[None, :]
    tl.store(mean_key + at[:, None] * features + features_at[None, :], weighted, mask=mask)
