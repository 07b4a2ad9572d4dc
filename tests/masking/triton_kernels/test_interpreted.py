"""Runs the tests of masking in Triton, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.process import run_emulated, run_interpreted

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.mark.ladder
def test_masking():
    run_interpreted(HERE / "interpreted_masking.py")


def test_masking_in_short():
    keyword = "(65 and int64) or budget or atomic or reasons"
    run_interpreted(HERE / "interpreted_masking.py", "-k", keyword)


@pytest.mark.ladder
def test_compiled_for_sm_80():
    run_emulated(HERE / "emulated_masking.py")
