"""The operators for CUDA, from torch to the kernels, in a process of their own."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.emulation.cuda import build
from tests.emulation.process import run_emulated

HERE = Path(__file__).parent


@pytest.mark.slow
@pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())
def test_operators():
    run_emulated(HERE / "emulated_operators.py")
