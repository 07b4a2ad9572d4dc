"""Runs a file of tests in an interpreter process of its own.

`TRITON_INTERPRET` is read when a kernel is decorated, and the repairs are for good: neither belongs
into the process of the other tests. Files named `interpreted_*.py` are collected by nobody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]


def run_interpreted(path: Path, *options: str, timeout: float = 900.0) -> None:
    """Run the tests of `path`; their report is the message when one fails."""
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    command += ["--import-mode=importlib", "-p", "tests.emulation.interpreter.plugin"]
    process = subprocess.run(
        [*command, *options, str(path)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert process.returncode == 0, f"{path.name}:\n{process.stdout}\n{process.stderr}"
