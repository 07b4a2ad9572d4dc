"""Intervals cover what is known, and pairing cancels what both sides share."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.statistics import median_interval, paired_ratio, ratio_of_medians, spread


def test_interval_covers_a_known_median_about_as_often_as_it_says() -> None:
    generator = np.random.default_rng(1)
    trials = 200
    covered = 0
    for trial in range(trials):
        interval = median_interval(list(generator.lognormal(0.0, 0.2, 25)), seed=trial)
        covered += interval.low <= 1.0 <= interval.high
    assert 0.88 * trials <= covered <= trials * 0.995


def test_ratio_of_medians_covers_a_known_ratio() -> None:
    generator = np.random.default_rng(2)
    trials = 200
    covered = 0
    for trial in range(trials):
        new = list(1.3 * generator.lognormal(0.0, 0.1, 30))
        old = list(generator.lognormal(0.0, 0.1, 30))
        interval = ratio_of_medians(new, old, seed=trial)
        covered += interval.low <= 1.3 <= interval.high
    assert 0.88 * trials <= covered <= trials * 0.995


def test_paired_ratio_is_exact_when_the_machine_slows_both_alike() -> None:
    busy = np.random.default_rng(3).lognormal(0.0, 1.0, 20)
    ratio = paired_ratio(list(4.0 * busy), list(busy))
    assert ratio is not None
    assert (ratio.low, ratio.median, ratio.high) == pytest.approx((4.0, 4.0, 4.0))


def test_paired_ratio_leaves_out_rounds_that_one_sat_out() -> None:
    ratio = paired_ratio([2.0, None, 2.0, 9.0], [1.0, 1.0, 1.0, None])
    assert ratio is not None
    assert (ratio.low, ratio.high) == (2.0, 2.0)
    assert paired_ratio([None], [1.0]) is None


def test_wider_noise_makes_a_wider_interval() -> None:
    generator = np.random.default_rng(4)
    narrow = median_interval(list(generator.normal(1.0, 0.01, 30)))
    wide = median_interval(list(generator.normal(1.0, 0.1, 30)))
    assert wide.high - wide.low > 3 * (narrow.high - narrow.low)


def test_spread_is_ordered() -> None:
    assert spread([5.0, 1.0, 2.0, 3.0, 4.0, 6.0]) == pytest.approx((2.0, 3.5, 5.0))
