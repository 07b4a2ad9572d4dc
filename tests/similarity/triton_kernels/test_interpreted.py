"""Runs the tests of the Triton kernels that need Triton's interpreter."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.process import run_interpreted

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.mark.ladder
def test_engine():
    run_interpreted(HERE / "interpreted_engine.py")


def test_engine_in_short():
    run_interpreted(HERE / "interpreted_engine.py", "-k", "37 or broken or rows_far or high")


@pytest.mark.ladder
def test_pairs():
    run_interpreted(HERE / "interpreted_pairs.py")


def test_pairs_in_short():
    run_interpreted(
        HERE / "interpreted_pairs.py", "-k", "broken or bfloat16 and (few or small_buffers)"
    )


@pytest.mark.ladder
@pytest.mark.parametrize("part", ["NTXent", "not NTXent"])
def test_contract(part):
    """Not: torch.compile and export, which need compiled kernels; float64, which is refused."""
    without = "compile", "export", "gradcheck", "threads"
    keyword = " and ".join((part, *(f"not {name}" for name in without)))
    run_interpreted(HERE / "interpreted_contract.py", "-k", keyword)
