"""The matrix-product rate of this machine: what the achieved rates are held against."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from benchmarks.case import Case, synchronize, torch_state
from benchmarks.timing import gc_paused, seconds_of

SHAPES = ((512, 512, 512), (1024, 1024, 1024), (2048, 2048, 2048), (4096, 128, 4096))
NOTE = (
    "Percent of GEMM divides the useful rate by the best torch.mm rate among "
    + ", ".join("x".join(map(str, shape)) for shape in SHAPES)
    + " (rows x inner x columns), same dtype, precision and threads, same run. It is a yardstick "
    "and no ceiling: above 100 % means that our kernels drive the matrix unit harder than "
    "torch.mm does here."
)


@dataclass(frozen=True)
class GemmRate:
    """The best rate of `torch.mm` for one dtype and precision, and the shape that reached it."""

    kind: str
    gflops: float
    shape: str


def measure(case: Case, seconds: float) -> GemmRate:
    """Try every shape for about `seconds` in all; the best single call counts."""
    best = (0.0, SHAPES[0])
    with torch_state(case), gc_paused(), torch.no_grad():
        for shape in SHAPES:
            rows, inner, columns = shape
            left = torch.randn(rows, inner).to(case.device, case.torch_dtype)
            right = torch.randn(inner, columns).to(case.device, case.torch_dtype)

            def product(left: torch.Tensor = left, right: torch.Tensor = right) -> torch.Tensor:
                return torch.mm(left, right)

            product()
            synchronize(case.device)
            end = time.perf_counter() + seconds / len(SHAPES)
            while True:
                rate = 2.0 * rows * inner * columns / seconds_of(product, case.device) / 1e9
                best = max(best, (rate, shape))
                if time.perf_counter() >= end:
                    break
    return GemmRate(case.kind, best[0], "x".join(map(str, best[1])))
