"""The yardstick of what only moves data."""

from __future__ import annotations

import torch

from benchmarks import copying
from benchmarks.case import Case


def test_both_directions_are_counted(monkeypatch) -> None:
    sizes = []

    def one_millisecond(call, device) -> float:
        sizes.append(call().numel())
        return 1e-3

    monkeypatch.setattr(copying, "seconds_of", one_millisecond)
    rate = copying.measure(Case("augment", (1, 1, 1, 1), "uint8", ""), 4_000_000, 0.0)
    assert rate == copying.CopyRate(4_000_000, 4.0)
    assert set(sizes) == {2_000_000}


def test_precision_is_left_alone_where_there_is_none() -> None:
    before = torch.get_float32_matmul_precision()
    copying.measure(Case("augment", (1, 1, 1, 1), "float32", ""), 1000, 0.0)
    assert torch.get_float32_matmul_precision() == before
