"""The shipped kernels in the emulator of PTX: one of each dtype every day, all when asked for."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.process import run_emulated

pytest.importorskip("triton")
KERNELS = Path(__file__).with_name("emulated_kernels.py")
MUTATIONS = Path(__file__).with_name("emulated_mutations.py")


def test_one_forward_and_backward():
    run_emulated(KERNELS, "-k", "test_logsumexp and bfloat16 and bias and cross")


@pytest.mark.ladder
@pytest.mark.parametrize("part", ["test_logsumexp", "not test_logsumexp"])
def test_every_kernel(part):
    run_emulated(KERNELS, "-k", part)


@pytest.mark.ladder
def test_every_operator_is_traced():
    run_emulated(Path(__file__).with_name("emulated_tracing.py"))


@pytest.mark.ladder
@pytest.mark.parametrize("part", ["barrier", "not barrier"])
def test_every_defect(part):
    run_emulated(MUTATIONS, "-k", part)
