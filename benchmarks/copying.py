"""The rate of a copy on this machine: what operators that only move data are held against."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from benchmarks.case import Case, synchronize, torch_state
from benchmarks.timing import gc_paused, seconds_of

NOTE = (
    "Percent of copy divides that by the best rate of torch's copy_ in the same run, with the same "
    "threads, of one tensor into another that stays where it is, reading and writing together as "
    "many bytes as the forward is counted with. It is a yardstick and no ceiling: a kernel that "
    "writes past the caches can exceed it."
)


@dataclass(frozen=True)
class CopyRate:
    """The best rate of copies that read and write `moved` bytes together."""

    moved: int
    gbytes_per_second: float


def measure(case: Case, moved: int, seconds: float) -> CopyRate:
    """Copy for about `seconds`; the best single call counts."""
    best = 0.0
    with torch_state(case), gc_paused():
        source = torch.ones(moved // 2, dtype=torch.uint8, device=case.device)
        target = torch.empty_like(source)

        def copy() -> torch.Tensor:
            return target.copy_(source)

        copy()
        synchronize(case.device)
        end = time.perf_counter() + seconds
        while True:
            best = max(best, 2 * source.numel() / seconds_of(copy, case.device) / 1e9)
            if time.perf_counter() >= end:
                return CopyRate(moved, best)
