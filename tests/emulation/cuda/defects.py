"""Kernels of the engine with a text changed, and what tests of such defects have in common."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from tests.emulation.cuda import build
from tests.emulation.cuda.run import SCHEDULES, Fault, Library


def changed(folder: Path, sources: Sequence[Path], *changes: tuple[str, str, str]) -> Library:
    """The engine's kernels where the only place of a file with a text has another."""
    root = folder / "csrc"
    shutil.copytree(build.CSRC, root)
    for name, old, new in changes:
        path = root / "similarity" / name
        text = path.read_text()
        assert text.count(old) == 1, f"{name} has {text.count(old)} times {old!r}"
        path.write_text(text.replace(old, new))
    return Library(*(root / source.relative_to(build.CSRC) for source in sources))


def assert_found(check: Callable[[str], None]) -> None:
    """In one of the schedules the kernel is stopped, or its result is wrong."""
    for schedule in SCHEDULES:
        try:
            check(schedule)
        except (Fault, AssertionError):
            return
    pytest.fail("nobody noticed")
