"""What tests of defects put into the kernels have in common."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.emulation.cuda.run import SCHEDULES, Fault


def assert_found(check: Callable[[str], None]) -> None:
    """In one of the schedules the kernel is stopped, or its result is wrong."""
    for schedule in SCHEDULES:
        try:
            check(schedule)
        except (Fault, AssertionError):
            return
    pytest.fail("nobody noticed")
