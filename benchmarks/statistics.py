"""Medians, spread and bootstrap intervals of repeated timings."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

RESAMPLES = 2000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Interval:
    """A median with the bounds of its bootstrap interval."""

    median: float
    low: float
    high: float


def spread(values: Sequence[float]) -> tuple[float, float, float]:
    """The 20th percentile, the median and the 80th percentile."""
    p20, median, p80 = np.quantile(np.asarray(values, dtype=float), (0.2, 0.5, 0.8))
    return float(p20), float(median), float(p80)


def _medians(values: Sequence[float], generator: np.random.Generator) -> np.ndarray:
    data = np.asarray(values, dtype=float)
    return np.median(generator.choice(data, size=(RESAMPLES, data.size)), axis=1)


def _interval(median: float, resampled: np.ndarray) -> Interval:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, (tail, 1.0 - tail))
    return Interval(float(median), float(low), float(high))


def median_interval(values: Sequence[float], seed: int = 0) -> Interval:
    """The median of `values` with its bootstrap interval."""
    generator = np.random.default_rng(seed)
    return _interval(float(np.median(values)), _medians(values, generator))


def paired_ratio(
    numerator: Sequence[float | None], denominator: Sequence[float | None]
) -> Interval | None:
    """The median of per-round ratios, over the rounds in which both took part.

    Pairing inside a round cancels what the machine did to both at that moment.
    """
    ratios = [
        above / below
        for above, below in zip(numerator, denominator, strict=True)
        if above is not None and below is not None
    ]
    return median_interval(ratios) if ratios else None


def ratio_of_medians(new: Sequence[float], old: Sequence[float], seed: int = 0) -> Interval:
    """The ratio of two medians taken in different runs: both are resampled, independently."""
    generator = np.random.default_rng(seed)
    resampled = _medians(new, generator) / _medians(old, generator)
    return _interval(float(np.median(new) / np.median(old)), resampled)
