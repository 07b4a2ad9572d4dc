"""Runs a file of tests of Triton kernels in a process of its own.

`TRITON_INTERPRET` is read when a kernel is decorated, and neither the interpreter's repairs nor
Triton's driver for a GPU that is not there can be taken back: none belongs into the process of the
other tests. Files named `interpreted_*.py` and `emulated_*.py` are collected by nobody else.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_INTERPRETER = ("-p", "tests.emulation.interpreter.plugin")


def run_interpreted(path: Path, *options: str, timeout: float = 900.0) -> None:
    """Run the tests of `path`, interpreted; their report is the message when one fails."""
    _run(path, *_INTERPRETER, *options, interpret="1", timeout=timeout)


def run_emulated(path: Path, *options: str, timeout: float = 900.0) -> None:
    """Run the tests of `path` with kernels that are compiled; the report as above."""
    _run(path, *options, interpret="0", timeout=timeout)


def _run(path: Path, *options: str, interpret: str, timeout: float) -> None:
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-o", "addopts="]
    process = subprocess.run(
        [*command, "--import-mode=importlib", *options, str(path)],
        cwd=ROOT,
        env={**os.environ, "TRITON_INTERPRET": interpret, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=timeout,
    )
    assert process.returncode == 0, f"{path.name}:\n{process.stdout}\n{process.stderr}"
