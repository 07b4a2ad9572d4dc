"""Interleaved timing: every round runs every implementation once, in a new random order."""

from __future__ import annotations

import gc
import math
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field

from benchmarks.case import synchronize


@dataclass(frozen=True)
class Budget:
    """How long to measure. `seconds` is shared evenly among the implementations of one case.

    An implementation sits out once its share is spent and it had `min_rounds`, so that a slow one
    does not take the rounds of the fast ones. Calls shorter than `sample_seconds` are repeated
    within a round until they last that long; one call above `call_seconds` is not timed at all.
    """

    seconds: float
    min_rounds: int
    max_rounds: int
    sample_seconds: float
    call_seconds: float


FULL = Budget(seconds=9.0, min_rounds=7, max_rounds=120, sample_seconds=2e-3, call_seconds=10.0)
QUICK = Budget(seconds=2.5, min_rounds=7, max_rounds=40, sample_seconds=1e-3, call_seconds=0.5)


@dataclass
class Samples:
    """Seconds per call of one implementation, a value a round; None where it sat out."""

    calls_per_sample: int
    seconds: list[float | None] = field(default_factory=list)
    spent: float = 0.0

    @property
    def taken(self) -> list[float]:
        """The rounds it took part in."""
        return [value for value in self.seconds if value is not None]


@contextmanager
def gc_paused() -> Iterator[None]:
    """Collect garbage now and not again until the block ends."""
    enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def seconds_of(call: Callable[[], object], device: str, repeat: int = 1) -> float:
    """Wall-clock seconds of one call, the mean of `repeat` calls in a row."""
    synchronize(device)
    start = time.perf_counter()
    for _ in range(repeat):
        call()
    synchronize(device)
    return (time.perf_counter() - start) / repeat


def interleave(
    calls: Mapping[str, Callable[[], object]], budget: Budget, device: str, seed: int = 0
) -> dict[str, Samples]:
    """Time `calls` against each other; all lists of samples come out equally long.

    The first of `calls` is what the others are compared with: it takes part in every round.
    The first calls, which compile and fill caches, are not counted.
    """
    samples = {}
    for name, call in calls.items():
        seconds_of(call, device)
        estimate = max(min(seconds_of(call, device) for _ in range(2)), 1e-9)
        samples[name] = Samples(max(1, math.ceil(budget.sample_seconds / estimate)))
    share = budget.seconds / max(len(calls), 1)
    order = list(calls)
    anchor = order[0]
    shuffle = random.Random(seed).shuffle
    with gc_paused():
        for _ in range(budget.max_rounds):
            active = {
                name
                for name, sample in samples.items()
                if len(sample.taken) < budget.min_rounds or sample.spent < share
            }
            if not active or (len(calls) > 1 and active == {anchor}):
                break
            active.add(anchor)
            shuffle(order)
            for name in order:
                sample = samples[name]
                value = None
                if name in active:
                    value = seconds_of(calls[name], device, sample.calls_per_sample)
                    sample.spent += value * sample.calls_per_sample
                sample.seconds.append(value)
    return samples
