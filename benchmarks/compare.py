"""Compares our times in two results files, and says what is surely slower or faster."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.errors import InputError
from benchmarks.registry import OURS, operators
from benchmarks.results import CaseResult, Results, Timing
from benchmarks.statistics import Interval, ratio_of_medians

SLOWER, FASTER, SAME, UNDECIDED = "slower", "faster", "same", "undecided"


@dataclass(frozen=True)
class Comparison:
    """One case and mode in both files; `ratio` is new time over old time.

    `against` says what both times were divided by first ('eager'), or 'clock' for plain seconds.
    """

    case: str
    mode: str
    against: str
    old_median: float
    new_median: float
    ratio: Interval
    verdict: str


def verdict(ratio: Interval, threshold: float) -> str:
    """Slower or faster only when the whole interval lies beyond the threshold."""
    if ratio.low > threshold:
        return SLOWER
    if ratio.high < 1.0 / threshold:
        return FASTER
    if ratio.high <= threshold and ratio.low >= 1.0 / threshold:
        return SAME
    return UNDECIDED


def compare(old: Results, new: Results, threshold: float, relative_to: str) -> list[Comparison]:
    """Every case and mode that both files have for our implementation.

    With `relative_to` naming a baseline, our time is divided by the baseline's of the same round
    before the two runs are compared: a machine that was busier in one run then does not look like
    a regression. Rows where that baseline is missing are compared by the clock.

    Raises:
        InputError: the threshold is below 1, no operator has a baseline of that name, or the files
            share no case.
    """
    if not threshold >= 1.0:
        raise InputError(f"--threshold: must be at least 1, got {threshold}")
    _check_baseline(relative_to)
    olds = {result.case.key: result for result in old.cases}
    found = []
    for result in new.cases:
        before = olds.get(result.case.key)
        for timing in result.timings if before else []:
            if timing.implementation != OURS or before is None:
                continue
            earlier = _timing(before, OURS, timing.mode)
            if earlier is None:
                continue
            against = relative_to
            new_values = _relative(result, timing, relative_to)
            old_values = _relative(before, earlier, relative_to)
            if not new_values or not old_values:
                against = "clock"
                new_values, old_values = _seconds(timing), _seconds(earlier)
            ratio = ratio_of_medians(new_values, old_values)
            found.append(
                Comparison(
                    case=result.case.title,
                    mode=timing.mode,
                    against=against,
                    old_median=earlier.median,
                    new_median=timing.median,
                    ratio=ratio,
                    verdict=verdict(ratio, threshold),
                )
            )
    if not found:
        raise InputError("the two files share no timed case of ours; nothing to compare")
    return found


def differences(old: Results, new: Results) -> list[str]:
    """What differs between the two environments and may explain a change."""
    names = ("cpu", "gpu", "threads", "sslkernels_isa", "python", "packages", "variables")
    pairs = [(n, getattr(old.environment, n), getattr(new.environment, n)) for n in names]
    return [f"{name}: {before} -> {after}" for name, before, after in pairs if before != after]


def _check_baseline(name: str) -> None:
    """A baseline that was not installed is missing here and there; a misspelt one is everywhere."""
    names = (one.name for operator in operators().values() for one in operator.implementations)
    known = dict.fromkeys(["clock", *names])
    known.pop(OURS)
    if name not in known:
        raise InputError(f"--relative-to: got {name!r}, wanted one of {', '.join(known)}")


def _timing(result: CaseResult, implementation: str, mode: str) -> Timing | None:
    return next(
        (t for t in result.timings if (t.implementation, t.mode) == (implementation, mode)), None
    )


def _seconds(timing: Timing) -> list[float]:
    return [value for value in timing.samples if value is not None]


def _relative(result: CaseResult, ours: Timing, name: str) -> list[float]:
    other = _timing(result, name, ours.mode)
    if other is None:
        return []
    pairs = zip(ours.samples, other.samples, strict=True)
    return [a / b for a, b in pairs if a is not None and b is not None]
