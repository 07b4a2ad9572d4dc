"""How many tile products the losses take: what can be said of their time without the unit.

Needs the emulated unit, which counts: `pytest -p tests.emulation.amx.plugin tests/emulation/amx`.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

import sslkernels
from sslkernels import native

FLOPS = {0: 2 * 16 * 16 * 32, 1: 2 * 16 * 16 * 64}
"""Of a tile product: bytes take as long as bfloat16 and multiply twice as many."""


@pytest.fixture(autouse=True)
def _needs_the_emulated_unit() -> None:
    if native.isa() != "AMX" or not hasattr(_library(), "emulated_amx_products"):
        pytest.skip("the tile unit is not emulated in this session")


def _library() -> ctypes.CDLL:
    return ctypes.CDLL(str(native.load().path))


def units(loss: Callable[..., Tensor], leaves: list[Tensor], rows: int, columns: int) -> float:
    """Full products [rows, columns, D] in the time of bfloat16 ones, forward and backward."""
    count = _library().emulated_amx_products
    count.restype = ctypes.c_int64
    leaves = [x.requires_grad_() for x in leaves]
    for kind in FLOPS:
        count(kind)
    loss(*leaves).backward()
    tiles = sum(count(kind) for kind in FLOPS)
    return tiles * FLOPS[0] / (2 * rows * columns * leaves[0].shape[1])


@pytest.mark.parametrize(
    ("dtype", "precision", "nt_xent", "clip", "linear"),
    [
        # Scores twice, each pair of rows once; two products of the gradient, each for half.
        (torch.bfloat16, "highest", 2, 4, 4),
        # Three of the four products of two parts.
        (torch.float32, "high", 6, 12, 12),
        # Of bytes six of nine digits' products, at twice the rate: 3 for scores. Six products of
        # three parts, or three of two in a large batch, for gradients.
        (torch.float32, "highest", 6, 18, 18),
    ],
    ids=["bfloat16", "high", "highest"],
)
def test_units(dtype, precision, nt_xent, clip, linear):
    generator = torch.Generator().manual_seed(0)

    def drawn(rows: int, features: int) -> Tensor:
        return F.normalize(torch.randn(rows, features, generator=generator)).to(dtype)

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(precision)
    try:
        found = [
            units(sslkernels.nt_xent, [drawn(2048, 128), drawn(2048, 128)], 4096, 4096),
            units(
                lambda a, b: sslkernels.clip_loss(a, b, 10.0),
                [drawn(640, 256), drawn(640, 256)],
                640,
                640,
            ),
            units(
                lambda h, w: sslkernels.linear_cross_entropy(h, w, torch.arange(320)),
                [drawn(320, 256), drawn(4096, 256)],
                320,
                4096,
            ),
        ]
    finally:
        torch.set_float32_matmul_precision(before)
    # A few percent more: tiles on the diagonal are whole, blocks at the end are filled up.
    for ours, documented in zip(found, (nt_xent, clip, linear), strict=True):
        assert documented <= ours <= 1.08 * documented, found
