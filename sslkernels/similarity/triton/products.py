"""The gradient G of the logits meets keys and queries: dq = factor G K, dk = factor G^T Q.

G is written for as many rows at a time as a workspace holds, in the dtype of the inputs; what is
left are plain products, the same on every run.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

from collections.abc import Iterator

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.operators import on_device
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.tiles import dot, load_rows

WORKSPACE_MIB = 64.0
"""Largest part of G that exists at a time: about the size of a GPU's second-level cache."""


class Products:
    """dq [M, D] and dk [n, D] of `dtype`; dk is empty without `with_dk`.

    With `symmetric` k is q, dq is the whole gradient and dk is empty. `factor` is a 0-dim float32
    tensor. G is written by the loop over `blocks`, after which `finish` gives the results.
    """

    def __init__(
        self,
        logits: Logits,
        factor: Tensor,
        dtype: torch.dtype,
        symmetric: bool = False,
        with_dk: bool = True,
    ) -> None:
        q, k = logits.q, logits.k
        (m, features), n = q.shape, k.shape[0]
        self.logits, self.factor, self.dtype = logits, factor, dtype
        self.symmetric, self.with_dk = symmetric, with_dk
        rows = configurations.gradient(q.dtype, features).rows
        pitch = triton.cdiv(n, 16) * 16  # rows that vector loads can start at
        budget = int(WORKSPACE_MIB * 2**20) // (max(1, pitch) * q.element_size())
        blocks = min(triton.cdiv(m, rows), max(1, budget // rows))
        self.chunk = max(1, blocks) * rows
        self.workspace = q.new_empty(self.chunk, pitch)
        self.one_pass = self.chunk >= m and not symmetric
        self.dq = q.new_zeros(m, features, dtype=torch.float32 if symmetric else dtype)
        kept = dtype if self.one_pass else torch.float32
        self.dk = q.new_zeros(n if with_dk else 0, features, dtype=kept)
        if symmetric:
            self.dk = self.dq

    def blocks(self) -> Iterator[tuple[int, Tensor]]:
        """(first, block) for each part of G: its rows from `first` on are to be put into `block`.

        All elements of a row of `block` are to be written, also those beyond the last column. The
        products are made when the next block is asked for.
        """
        q, k = self.logits.q, self.logits.k
        m = q.shape[0]
        for first in range(0, m, self.chunk):
            block = self.workspace[: min(self.chunk, m - first)]
            yield first, block
            self._multiply(block, k, self.dq, first, transpose=False, accumulate=self.symmetric)
            if self.symmetric or self.with_dk:
                self._multiply(
                    block, q, self.dk, first, transpose=True, accumulate=not self.one_pass
                )

    def finish(self) -> tuple[Tensor, Tensor]:
        """dq and dk."""
        dk = self.dq.new_empty(0, self.dq.shape[1]) if self.symmetric else self.dk
        return self.dq.to(self.dtype), dk.to(self.dtype)

    def _multiply(
        self,
        block: Tensor,
        other: Tensor,
        out: Tensor,
        first: int,
        transpose: bool,
        accumulate: bool,
    ) -> None:
        """dq = factor G K, or with `transpose` dk (+)= factor G^T Q, for the rows of `block`."""
        logits = self.logits
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
                self.factor,
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
