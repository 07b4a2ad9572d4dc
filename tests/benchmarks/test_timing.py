"""How rounds are arranged; nothing here asserts a time."""

from __future__ import annotations

import gc
from dataclasses import replace

from benchmarks.timing import Budget, gc_paused, interleave

BUDGET = Budget(seconds=0.05, min_rounds=5, max_rounds=9, sample_seconds=0.0, call_seconds=1.0)


def test_every_round_has_everyone_once_and_orders_differ() -> None:
    log: list[str] = []
    calls = {name: (lambda name=name: log.append(name)) for name in ("a", "b", "c")}
    samples = interleave(calls, replace(BUDGET, seconds=100.0), "cpu")
    assert [len(sample.seconds) for sample in samples.values()] == [9, 9, 9]
    warm = 3 * len(calls)
    rounds = [tuple(log[start : start + 3]) for start in range(warm, len(log), 3)]
    assert len(rounds) == 9
    assert all(sorted(one) == ["a", "b", "c"] for one in rounds)
    assert len(set(rounds)) > 1


def test_the_slow_one_sits_out_after_its_share_and_the_first_never_does() -> None:
    def slow() -> None:
        sum(range(2_000_000))

    samples = interleave({"ours": lambda: None, "fast": lambda: None, "slow": slow}, BUDGET, "cpu")
    assert len(samples["slow"].taken) == BUDGET.min_rounds
    assert len(samples["fast"].taken) == BUDGET.max_rounds
    assert None not in samples["ours"].seconds
    assert len({len(sample.seconds) for sample in samples.values()}) == 1


def test_the_first_takes_part_in_every_round_even_when_it_is_the_slow_one() -> None:
    def slow() -> None:
        sum(range(2_000_000))

    samples = interleave({"ours": slow, "fast": lambda: None}, BUDGET, "cpu")
    assert len(samples["ours"].taken) == len(samples["fast"].taken) == BUDGET.max_rounds


def test_short_calls_are_repeated_within_a_round() -> None:
    samples = interleave({"one": lambda: None}, replace(BUDGET, sample_seconds=1e-4), "cpu")
    assert samples["one"].calls_per_sample > 1


def test_garbage_collection_comes_back_on() -> None:
    with gc_paused():
        assert not gc.isenabled()
    assert gc.isenabled()
