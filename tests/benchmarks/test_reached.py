"""Time to the same accuracy, by the logs of runs that never were."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("tensorboard", reason="the train extra is not installed")

from typer.testing import CliRunner

from benchmarks import cli
from benchmarks.errors import InputError
from benchmarks.training.reached import Curve, curve, rows
from tests.train.commands import untrained

BATCH = 64  # of `untrained`


def run(out: Path, seconds: float, values: Sequence[float], every: int = 10) -> Path:
    """A run with steps of so many seconds, measured every so many; a few steps were disturbed."""
    untrained(out, "simclr")
    steps = range(1, every * len(values) + 1)
    lines = [f"{step},{BATCH / (100 if step % 4 == 0 else seconds)}" for step in steps]
    (out / "metrics.csv").write_text("\n".join(["step,examples_per_second", *lines, ""]))
    lines = [f"{every * (i + 1)},{i + 1},kNN,{value}" for i, value in enumerate(values)]
    (out / "measures.csv").write_text("\n".join(["step,epoch,measure,value", *lines, ""]))
    return out


def test_seconds_are_steps_of_the_median_and_seeds_are_averaged(tmp_path):
    found = curve(
        [run(tmp_path / "a", 0.5, (0.6, 0.8)), run(tmp_path / "b", 1.5, (0.7, 0.7))], "kNN"
    )
    np.testing.assert_allclose(found.seconds, [10, 20])
    np.testing.assert_allclose(found.values, [0.65, 0.75])


@pytest.mark.parametrize(
    ("level", "seconds"), [(0.1, 10), (0.5, 10), (0.6, 15), (0.7, 20), (0.75, 35), (0.81, None)]
)
def test_the_first_time_at_a_level(level, seconds):
    dipping = Curve(np.array([10.0, 20, 30, 40]), np.array([0.5, 0.7, 0.7, 0.8]))
    assert dipping.first(level) == (None if seconds is None else pytest.approx(seconds))


def test_rows_are_the_levels_that_theirs_reach_anew():
    theirs = Curve(np.array([100.0, 200, 300, 400]), np.array([0.5, 0.7, 0.6, 0.9]))
    ours = Curve(np.array([10.0, 20]), np.array([0.6, 0.8]))
    assert rows(ours, theirs) == [
        ["50.0%", "100", "10.0", "10.0x"],
        ["70.0%", "200", "15.0", "13.3x"],
        ["90.0%", "400", "not reached", "-"],
    ]


def test_command_writes_the_page(tmp_path):
    ours, theirs = run(tmp_path / "ours", 1, (0.5, 0.9)), run(tmp_path / "theirs", 4, (0.5, 0.7))
    out = tmp_path / "reached.md"
    done = CliRunner().invoke(
        cli.app, ["reached", str(ours), "--against", str(theirs), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    assert "| 70.0% | 80.0 | 15.0 | 5.33x |" in out.read_text()


def test_what_is_no_run_or_has_no_such_measure_is_named(tmp_path):
    one = run(tmp_path / "one", 1, (0.5, 0.6))
    other = run(tmp_path / "other", 1, (0.5,))
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty: there is no .*checkpoint\.pt"):
        curve([tmp_path / "empty"], "kNN")
    with pytest.raises(InputError, match="one: has no measurements of 'loss', but of kNN"):
        curve([one], "loss")
    with pytest.raises(InputError, match=r"other: measured at steps \[10\], .*one at \[10, 20\]"):
        curve([one, other], "kNN")
    (one / "measures.csv").unlink()
    with pytest.raises(InputError, match=r"one: .*measures\.csv"):
        curve([one], "kNN")
