"""The comparison speaks up only when the whole interval does."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import results
from benchmarks.cli import app
from benchmarks.compare import FASTER, SAME, SLOWER, UNDECIDED, compare, verdict
from benchmarks.errors import InputError
from benchmarks.results import Results
from benchmarks.statistics import Interval

Make = Callable[..., Results]


@pytest.mark.parametrize(
    ("interval", "expected"),
    [
        ((1.06, 1.1, 1.2), SLOWER),
        ((1.04, 1.1, 1.2), UNDECIDED),
        ((0.97, 1.0, 1.04), SAME),
        ((0.90, 1.0, 1.04), UNDECIDED),
        ((0.80, 0.85, 0.94), FASTER),
        ((0.5, 1.0, 2.0), UNDECIDED),
    ],
)
def test_verdict(interval: tuple[float, float, float], expected: str) -> None:
    low, median, high = interval
    assert verdict(Interval(median, low, high), 1.05) == expected


@pytest.mark.parametrize(
    ("ours", "noise", "code", "word"),
    [
        (1.5e-3, 0.01, 1, SLOWER),
        (0.5e-3, 0.01, 0, FASTER),
        # A tenth slower, but drowned in noise: no verdict, and no failure.
        (1.1e-3, 1.0, 0, UNDECIDED),
    ],
)
def test_exit_code(
    make_results: Make, tmp_path: Path, ours: float, noise: float, code: int, word: str
) -> None:
    old, new = tmp_path / "old.json", tmp_path / "new.json"
    results.save(make_results(noise=noise, seed=1), old)
    results.save(_with_baselines_of_old(make_results, ours, noise), new)
    done = CliRunner().invoke(app, ["compare", str(old), str(new)], env={"COLUMNS": "200"})
    assert done.exit_code == code, done.output
    assert word in done.output


def _with_baselines_of_old(make_results: Make, ours: float, noise: float) -> Results:
    """Our time changed, the baselines as they were: what a change of our code looks like."""
    base, changed = make_results(noise=noise, seed=2), make_results(ours=ours, noise=noise, seed=5)
    for before, after in zip(base.cases, changed.cases, strict=True):
        kept = [t for t in after.timings if t.implementation == "ours"]
        after.timings[:] = kept + [t for t in before.timings if t.implementation != "ours"]
    return changed


def test_a_busier_machine_is_no_regression(make_results: Make) -> None:
    old, new = make_results(seed=1), make_results(ours=1.5e-3, seed=2)
    assert {one.verdict for one in compare(old, new, 1.05, "eager")} == {SAME}
    assert {one.verdict for one in compare(old, new, 1.05, "clock")} == {SLOWER}


def test_a_missing_baseline_falls_back_to_the_clock(make_results: Make) -> None:
    found = compare(make_results(seed=1), make_results(seed=2), 1.05, "lightly")
    assert {one.against for one in found} == {"clock"}


def test_nothing_in_common_is_an_error(make_results: Make) -> None:
    old, new = make_results(), make_results()
    old.cases.clear()
    with pytest.raises(InputError, match="share no timed case"):
        compare(old, new, 1.05, "eager")
