"""Every injected bug is found, as what it is and at its line."""

from __future__ import annotations

import functools
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.emulation.cuda import build, unity
from tests.emulation.cuda.run import SCHEDULES, Fault, Library
from tests.emulation.process import ROOT

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

BUGS = Path(__file__).with_name("bugs")

FOUND = {
    "barrier_after_exit": "Divergence",
    "copy_misaligned": "Misaligned",
    "copy_not_awaited": "PendingCopy",
    "copy_without_barrier": "Race",
    "matrix_row_misaligned": "Misaligned",
    "missing_barrier": "Race",
    "missing_second_barrier": "Race",
    "missing_syncwarp": "Race",
    "plain_and_atomic": "Race",
    "read_outside": "OutOfBounds",
    "shuffle_from_ended_lane": "Divergence",
    "shuffle_in_a_branch": "Divergence",
    "shuffle_outside_mask": "Divergence",
    "too_little_dynamic_shared": "OutOfBounds",
    "two_barriers": "Divergence",
    "two_blocks_write": "Race",
    "unwritten_shared": "Unwritten",
    "vector_misaligned": "Misaligned",
    "vote_against_shuffle": "Divergence",
    "write_outside": "OutOfBounds",
    "write_to_input": "ReadOnly",
}
SANITIZED = {
    "local_overrun": "index 4 out of bounds",
    "signed_overflow": "signed integer overflow",
    "static_shared_overrun": "index 64 out of bounds",
    "too_little_dynamic_shared": "use-after-poison",
    "wide_shift": "shift exponent",
}


def test_every_bug_has_a_test():
    assert {path.stem for path in BUGS.glob("*.cu")} == FOUND.keys() | SANITIZED.keys()


def lines_of(bug: str) -> list[int]:
    text = (BUGS / f"{bug}.cu").read_text().splitlines()
    return [number for number, line in enumerate(text, 1) if "// BUG" in line]


@functools.cache
def library() -> Library:
    return unity.library([BUGS / f"{name}.cu" for name in FOUND])


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("bug", FOUND)
def test_is_found(bug, schedule):
    x = np.arange(64, dtype=np.float32)
    x.flags.writeable = False
    with pytest.raises(Fault) as fault:
        library().run(bug, x, np.zeros(64, np.float32), schedule=schedule)
    assert fault.value.kind == FOUND[bug]
    assert fault.value.file == f"{bug}.cu"
    assert fault.value.line in lines_of(bug)


CHILD = """
import sys, ctypes, numpy
library = ctypes.CDLL(sys.argv[1])
library.emulated_begin(0)
x, y = numpy.arange(64, dtype=numpy.float32), numpy.zeros(64, numpy.float32)
getattr(library, sys.argv[2])(ctypes.c_void_p(x.ctypes.data), ctypes.c_void_p(y.ctypes.data))
"""


@pytest.mark.parametrize("bug", SANITIZED)
def test_is_found_by_the_sanitizers(bug):
    source = unity.source_of([BUGS / f"{name}.cu" for name in SANITIZED])
    path = build.build([source], "sanitized")
    process = subprocess.run(
        [sys.executable, "-c", CHILD, str(path), bug],
        cwd=ROOT,
        env={**os.environ, **build.sanitized_environment()},
        capture_output=True,
        text=True,
    )
    assert process.returncode != 0
    assert SANITIZED[bug] in process.stderr
    assert f"{bug}.cu:{lines_of(bug)[0]}" in process.stderr
