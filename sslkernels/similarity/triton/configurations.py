"""Tile sizes, warps and pipeline stages of each kernel: few, and each for a reason.

Products of 16-bit operands feed the matrix units from 128 x 128 tiles, the largest whose float32
accumulators leave room for the epilogue in the registers of eight warps. float32 operands are split
into three bfloat16 parts in registers, so their tiles are a quarter of that, and fewer terms are
summed at a time. `tests/emulation/resources.json` has what each of them uses; none spills.

These are the defaults: what `python -m benchmarks tune` measured on a card replaces them there.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import NamedTuple

import torch

from sslkernels.similarity.triton import tuned

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


def _unless_tuned(default: Callable[..., Configuration]) -> Callable[..., Configuration]:
    @functools.wraps(default)
    def chosen(dtype: torch.dtype, *features: int) -> Configuration:
        tile = tuned.find(default.__name__, dtype, *(features or (0,)))
        return Configuration(*tile) if tile else default(dtype, *features)

    return chosen


@_unless_tuned
def forward(dtype: torch.dtype, features: int) -> Configuration:
    """Row terms: rows of up to `inner` features are loaded once, and columns stream past them."""
    if dtype is torch.float32:
        return Configuration(64, 64, 16, 4, 2)
    if features <= 128:
        columns = 64 if architecture() == "sm_100" else 128
        return Configuration(128, columns, _inner(features, 128), 8, _stages(2))
    return Configuration(128, 128, 64, 8, _stages(3))


@_unless_tuned
def gradient(dtype: torch.dtype, features: int) -> Configuration:
    """Tiles of the gradient of the logits, whose epilogue needs twice the registers."""
    if dtype is torch.float32:
        return Configuration(64, 64, 16, 4, 2)
    return Configuration(128, 64, _inner(features, 64), 8, _stages(3))


@_unless_tuned
def product(dtype: torch.dtype) -> Configuration:
    """A plain product of two matrices."""
    if dtype is torch.float32:
        return Configuration(64, 64, 16, 4, 2)
    return Configuration(128, 128, 64, 8, _stages(3))


@_unless_tuned
def symmetric(dtype: torch.dtype, features: int) -> Configuration:
    """Square tiles of a matrix against itself, for their sums: as `forward`."""
    if dtype is torch.float32:
        return Configuration(64, 64, 16, 4, 2)
    if architecture() == "sm_100":
        return Configuration(64, 64, _inner(features, 128 if features <= 128 else 32), 8, 2)
    return Configuration(128, 128, _inner(features, 128 if features <= 128 else 32), 8, _stages(2))


@_unless_tuned
def added(dtype: torch.dtype, features: int) -> Configuration:
    """Square tiles of the gradient, multiplied on both sides: 32 features of it at a time."""
    if dtype is torch.float32:
        return Configuration(32, 32, _inner(features, 32), 4, _stages(2))
    if architecture() != "sm_80":
        return Configuration(64, 64, _inner(features, 32), 4, _stages(2))
    return Configuration(128, 128, _inner(features, 32), 8, 2)


@_unless_tuned
def owned(dtype: torch.dtype) -> Configuration:
    """A program keeps the gradient of its rows, `widest_owned` features of it, in registers."""
    if dtype is torch.float32:
        return Configuration(32, 32, 32, 4, 1)
    return Configuration(64, 64, 64, 4, _stages(2))


def widest_owned(dtype: torch.dtype) -> int:
    """The most features of rows whose gradient one program can keep in registers."""
    return 64 if dtype is torch.float32 else 128


def kept(dtype: torch.dtype) -> Configuration:
    """A program keeps sums of the keys, `widest_owned` features of them, for each of its rows."""
    if dtype is torch.float32:
        return Configuration(32, 32, 32, 4, 1)
    return Configuration(128, 64, 64, 8, _stages(2))


def precision(dtype: torch.dtype, setting: int) -> str:
    """The PRECISION of `tiles.dot` for a matmul precision."""
    return PRECISIONS[setting] if dtype is torch.float32 else "ieee"


def architecture() -> str:
    """ "amd", "sm_100" from Blackwell on, else "sm_80".

    AMD's GPUs have 64 KiB of shared memory for a program, NVIDIA's 99 and more. Blackwell's matrix
    units leave their sums in a memory of their own, from where the epilogue reads them in pieces
    that need more registers.
    """
    if torch.version.hip is not None:
        return "amd"
    new = torch.cuda.is_available() and torch.cuda.get_device_capability()[0] >= 10
    return "sm_100" if new else "sm_80"


def _stages(wanted: int) -> int:
    return 1 if architecture() == "amd" else wanted


def _inner(features: int, largest: int) -> int:
    """A power of two from 16, the least that a matrix instruction takes, to `largest`."""
    return max(16, min(largest, 1 << (features - 1).bit_length()))
