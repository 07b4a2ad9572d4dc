"""The engine in plain PyTorch and bounded memory: any device, the portable fallback.

Same signatures and results as the C++ operators. Logits exist one tile at a time; a tile holds at
most `BUDGET_MIB`, however many columns there are. Sizes are Python ints and tiles are slices, so
nothing here can overflow 32 bits.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sslkernels.checks import accumulate_dtype

BUDGET_MIB = 64.0
"""Largest tile of logits. At most three of them are alive at a time."""

_FULL_ROWS = 256  # a tile has this many rows before its columns are cut: products stay efficient


def tiles(m: int, n: int, dtype: torch.dtype) -> tuple[list[slice], list[slice]]:
    """Row and column slices that cut an [m, n] matrix into tiles within the budget."""
    elements = max(1, int(BUDGET_MIB * 2**20) // dtype.itemsize)
    columns = max(1, min(n, elements // max(1, min(m, _FULL_ROWS))))
    rows = max(1, min(m, elements // columns))
    return list(_slices(m, rows)), list(_slices(n, columns))


def logits_tile(
    q: Tensor,
    k: Tensor,
    scale: Tensor | float,
    bias: Tensor | None,
    exclude: Sequence[int],
    rows: slice,
    columns: slice,
) -> Tensor:
    """One tile of the logits, -inf where excluded."""
    tile = (q[rows] * scale) @ k[columns].T
    if bias is not None:
        tile += bias[columns]
    for offset in exclude:
        for diagonal in diagonals(k.shape[0], offset, rows, columns):
            tile.diagonal(diagonal).fill_(float("-inf"))
    return tile


def diagonals(n: int, offset: int, rows: slice, columns: slice) -> range:
    """Which diagonals of a tile hold the elements (i, (i + offset) mod n) of the whole matrix.

    One for each time that the column wraps around; those beyond the tile's edge are empty.
    """
    first = (offset + rows.start - columns.start) % n
    return range(first, rows.start - rows.stop, -n)


def logsumexp_forward(
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    precision: int,
) -> Tensor:
    """lse [M] in the accumulation dtype. `precision` is torch's own global setting here."""
    q, k, scale, bias = wide(q, k, scale, bias)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = tiles(q.shape[0], k.shape[0], q.dtype)
        lse = q.new_empty(q.shape[0])
        for rows in row_slices:
            lse[rows], _ = _row_lse(q, k, scale, bias, exclude, rows, column_slices)
    return lse


def logsumexp_backward(
    grad: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor | None,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    with_dk: bool,
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """dq, dk, dscale, dbias of sum_i grad_i * lse_i; without k, or the wish for it, dk is empty."""
    gradients = _Gradients(q, k, scale, bias, exclude, with_dk)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = tiles(q.shape[0], gradients.k.shape[0], gradients.q.dtype)
        for rows in row_slices:
            gradients.add(rows, column_slices, lse[rows], grad[rows], None)
    return gradients.finish()


def weighted_logsumexp_forward(
    q: Tensor,
    k: Tensor | None,
    row_weight: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    precision: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """value, lse and the gradients of value: one pass when a tile holds whole rows."""
    gradients = _Gradients(q, k, scale, bias, exclude)
    wide = (gradients.q, gradients.k, gradients.scale, gradients.bias, exclude)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = tiles(q.shape[0], gradients.k.shape[0], gradients.q.dtype)
        lse = gradients.q.new_empty(q.shape[0])
        for rows in row_slices:
            lse[rows], tile = _row_lse(*wide, rows, column_slices)
            gradients.add(rows, column_slices, lse[rows], row_weight[rows], tile)
        value = (row_weight * lse).sum()  # pairwise; a dot product's error grows with M
    return value, lse, *gradients.finish()


class _Gradients:
    """Sums the gradients of sum_i weight_i * lse_i over row blocks, in the accumulation dtype."""

    def __init__(
        self,
        q: Tensor,
        k: Tensor | None,
        scale: Tensor,
        bias: Tensor | None,
        exclude: Sequence[int],
        with_dk: bool = True,
    ) -> None:
        self.dtype = q.dtype
        self.symmetric = k is None
        self.with_dk = with_dk or self.symmetric
        self.exclude = exclude
        self.q, self.k, self.scale, self.bias = wide(q, k, scale, bias)
        # Of <q_i, k_j>, that is before the factor `scale`.
        self.dq = torch.zeros_like(self.q)
        self.dk = self.dq
        if not self.symmetric:
            self.dk = self.k.new_zeros(self.k.shape if with_dk else (0, self.k.shape[1]))
        self.dscale = self.q.new_zeros(())
        self.dbias = self.q.new_zeros(0 if bias is None else self.k.shape[0])

    def add(
        self,
        rows: slice,
        column_slices: list[slice],
        lse: Tensor,
        weight: Tensor,
        tile: Tensor | None,
    ) -> None:
        """One row block; `tile` holds its logits when the caller has them, and is overwritten."""
        # A row with no allowed column has lse -inf: exp(-inf - 0) is the zero that it wants.
        lse = lse.masked_fill(lse == float("-inf"), 0.0)[:, None]
        block = self.q[rows]
        row_sum = torch.zeros_like(block)
        for columns in column_slices:
            if tile is None or len(column_slices) > 1:
                tile = logits_tile(
                    self.q, self.k, self.scale, self.bias, self.exclude, rows, columns
                )
            p = tile.sub_(lse).exp_().mul_(weight[:, None])
            row_sum.addmm_(p, self.k[columns])
            if self.with_dk:
                self.dk[columns].addmm_(p.T, block)
            if self.bias is not None:
                self.dbias[columns] += p.sum(0)
        self.dq[rows] += row_sum
        self.dscale += (block * row_sum).sum()

    def finish(self) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        dq = (self.dq * self.scale).to(self.dtype)
        if self.symmetric:
            dk = dq.new_empty(0, dq.shape[1])
        else:
            dk = (self.dk * self.scale).to(self.dtype)
        return dq, dk, self.dscale, self.dbias


def _row_lse(
    q: Tensor,
    k: Tensor,
    scale: Tensor,
    bias: Tensor | None,
    exclude: Sequence[int],
    rows: slice,
    column_slices: list[slice],
) -> tuple[Tensor, Tensor | None]:
    """lse of one row block, its running value shifted by the running maximum; the last tile."""
    lse, tile = q.new_full((rows.stop - rows.start,), float("-inf")), None
    for columns in column_slices:
        tile = logits_tile(q, k, scale, bias, exclude, rows, columns)
        lse = torch.logaddexp(lse, tile.logsumexp(1))
    return lse, tile


def wide(
    q: Tensor, k: Tensor | None, scale: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor, Tensor | None]:
    """The inputs in the accumulation dtype; k is q on the symmetric path."""
    dtype = accumulate_dtype(q.dtype)
    q = q.to(dtype)
    k = q if k is None else k.to(dtype)
    return q, k, scale.to(q.device, dtype), None if bias is None else bias.to(dtype)


def _slices(size: int, step: int) -> Iterator[slice]:
    for start in range(0, size, step):
        yield slice(start, min(start + step, size))
