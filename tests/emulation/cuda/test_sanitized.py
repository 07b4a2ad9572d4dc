"""The kernels under AddressSanitizer and UndefinedBehaviorSanitizer, in a process of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.emulation.cuda import build
from tests.emulation.process import ROOT

CHILD = """
import sys
import pytest
from tests.emulation.cuda import run

run.MODE = "sanitized"
sys.exit(pytest.main(["-q", "-p", "no:cacheprovider", "-k", "not sectors", *sys.argv[1:]]))
"""


@pytest.mark.slow
@pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())
@pytest.mark.parametrize("name", ["test_mask_tokens.py", "test_augment.py"])
def test_kernels(name):
    run_sanitized(name)


@pytest.mark.ladder
@pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())
def test_kernels_of_the_gradient():
    run_sanitized("test_augment_backward.py")


def run_sanitized(name: str) -> None:
    process = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).with_name(name))],
        cwd=ROOT,
        env={**os.environ, **build.sanitized_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
