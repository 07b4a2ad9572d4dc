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
options = ["-q", "-p", "no:cacheprovider", "-k", "not sectors and not banks"]
sys.exit(pytest.main([*options, *sys.argv[1:]]))
"""


@pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())
@pytest.mark.parametrize(
    "name",
    [
        pytest.param("test_mask_tokens.py", marks=pytest.mark.slow),
        pytest.param("test_augment.py", marks=pytest.mark.slow),
        pytest.param("test_augment_backward.py", marks=pytest.mark.ladder),
        pytest.param("test_logsumexp.py", marks=pytest.mark.ladder),
        pytest.param("test_pairs.py", marks=pytest.mark.ladder),
        pytest.param("test_sigmoid.py", marks=pytest.mark.ladder),
        pytest.param("test_terms.py", marks=pytest.mark.ladder),
    ],
)
def test_kernels(name):
    """Their tests, but for those that count."""
    process = subprocess.run(
        [sys.executable, "-c", CHILD, str(Path(__file__).with_name(name))],
        cwd=ROOT,
        env={**os.environ, **build.sanitized_environment(), "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stdout + process.stderr
