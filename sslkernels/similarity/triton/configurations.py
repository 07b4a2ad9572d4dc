"""Tile sizes, warps and pipeline stages of each kernel: few, and each for a reason.

Products of 16-bit operands feed the matrix units from 128 x 128 tiles, the largest whose float32
accumulators leave room for the epilogue in the registers of eight warps. float32 operands are split
into up to three bfloat16 parts in registers, so their tiles are a quarter of that.
"""

from __future__ import annotations

from typing import NamedTuple

import torch

PRECISIONS = ("bf16x6", "bf16x3", "bf16")
"""How float32 products are computed for `backends.matmul_precision()` 0, 1 and 2.

Six products of bfloat16 parts keep the 24 bits of float32, three keep 16, one keeps 8. bfloat16
products run at twice the rate of TF32 ones, and on every GPU that has matrix units.
"""


class Configuration(NamedTuple):
    """A tile is [rows, columns]; a product sums `inner` terms at a time."""

    rows: int
    columns: int
    inner: int
    warps: int
    stages: int


def forward(dtype: torch.dtype, features: int) -> Configuration:
    """Row terms, and tiles of gradients."""
    if dtype is torch.float32:
        return Configuration(64, 64, _inner(features, 32), 4, 2)
    return Configuration(128, 128, _inner(features, 64), 8, 3)


def symmetric(dtype: torch.dtype, features: int) -> Configuration:
    """Square tiles of one matrix against itself."""
    if dtype is torch.float32:
        return Configuration(64, 64, _inner(features, 32), 4, 2)
    return Configuration(128, 128, _inner(features, 64), 8, 2)


def owned(dtype: torch.dtype) -> Configuration:
    """As `symmetric`, where a program keeps [rows, WIDEST_OWNED] of the gradient in registers."""
    if dtype is torch.float32:
        return Configuration(32, 32, 32, 4, 1)
    return Configuration(64, 64, 64, 4, 2)


WIDEST_OWNED = 128
"""The most features of rows whose gradient one program can keep in registers."""


def product(dtype: torch.dtype) -> Configuration:
    """A plain product of two matrices."""
    if dtype is torch.float32:
        return Configuration(64, 64, 32, 4, 2)
    return Configuration(128, 128, 64, 8, 3)


def precision(dtype: torch.dtype, setting: int) -> str:
    """The PRECISION of `tiles.dot` for a matmul precision."""
    return PRECISIONS[setting] if dtype is torch.float32 else "ieee"


def _inner(features: int, largest: int) -> int:
    """A power of two from 16, the least that a matrix instruction takes, to `largest`."""
    return max(16, min(largest, 1 << (features - 1).bit_length()))
