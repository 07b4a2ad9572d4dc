"""The interpreter computes what a GPU would, and notices what a GPU would not forgive."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.process import run_interpreted

pytest.importorskip("triton")


def test_interpreter():
    run_interpreted(Path(__file__).with_name("interpreted_kernels.py"))


def test_a_failure_inside_is_a_failure_here(tmp_path):
    failing = tmp_path / "interpreted_failing.py"
    failing.write_text("def test_wrong():\n    assert 1 == 2\n")
    with pytest.raises(AssertionError, match="assert 1 == 2"):
        run_interpreted(failing)
