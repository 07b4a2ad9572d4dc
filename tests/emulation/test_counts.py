"""No shipped kernel moves more, multiplies more or has more bank conflicts than its table says."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest

from tests.emulation import counted, resources
from tests.emulation.process import ROOT

pytest.importorskip("triton")

TABLE = json.loads(counted.TABLE.read_text())
LARGE = ("bfloat16 768", "float32 128")
"""Widths whose code is that of another one, and whose counts take a minute."""


@pytest.mark.ladder
def test_every_case_is_counted():
    cases = json.loads(resources.TABLE.read_text())[counted.TARGET]
    assert TABLE.keys() == cases.keys(), "run python -m tests.emulation.counted --write"


@pytest.mark.ladder
@pytest.mark.parametrize("direction", ["forward", "backward"])
def test_shipped_kernels(direction):
    cases = [x for x in TABLE if (direction == "backward") == ("backward" in x)]
    cases = [x for x in cases if not x.startswith(LARGE)]
    process = subprocess.run(
        [sys.executable, "-m", "tests.emulation.counted", *cases],
        cwd=ROOT,
        env={name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout.splitlines()[-1])
    assert rows.keys() == set(cases)
    assert counted.growth(rows, TABLE) == []


def test_what_the_comparison_notices():
    name = next(iter(TABLE))
    for field in ("sectors_read", "matrix_flops", "wavefronts"):
        rows = copy.deepcopy(TABLE)
        rows[name][0][field] += 1
        [found] = counted.growth(rows, TABLE)
        assert f"{field} grew" in found
        assert counted.growth(TABLE, rows) == []
    rows = copy.deepcopy(TABLE)
    rows[name].pop()
    assert "the launches are not those" in counted.growth(rows, TABLE)[0]
