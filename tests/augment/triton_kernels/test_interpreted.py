"""Runs the tests of augmentation in Triton, in processes of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.process import run_emulated, run_interpreted

pytest.importorskip("triton")
HERE = Path(__file__).parent


@pytest.mark.ladder
def test_augment():
    run_interpreted(HERE / "interpreted_augment.py")


def test_augment_in_short():
    keyword = "border or reasons or (one_stage and contrast)"
    run_interpreted(HERE / "interpreted_augment.py", "-k", keyword)


@pytest.mark.ladder
def test_contract():
    """Not: torch.compile and export, which need compiled kernels; float64, which is refused."""
    without = "compile", "export", "gradcheck", "threads"
    keyword = " and ".join(f"not {name}" for name in without)
    run_interpreted(HERE / "interpreted_contract.py", "-k", keyword)


@pytest.mark.ladder
def test_compiled_for_sm_80():
    run_emulated(HERE / "emulated_augment.py")
