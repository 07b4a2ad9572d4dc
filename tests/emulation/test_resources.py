"""No shipped kernel spills, none misses the matrix units, and none grows unnoticed."""

from __future__ import annotations

import copy
import json
import os
import subprocess
import sys

import pytest

from tests.emulation import offline, resources
from tests.emulation.process import ROOT

pytest.importorskip("triton")

TABLE = json.loads(resources.TABLE.read_text())


def test_the_table_has_every_target():
    assert TABLE.keys() == offline.TARGETS.keys()


@pytest.mark.parametrize("target", offline.TARGETS)
def test_the_table_has_no_faults(target):
    assert resources.problems(target, TABLE[target], TABLE[target]) == []


@pytest.mark.ladder
@pytest.mark.parametrize("target", offline.TARGETS)
def test_shipped_kernels(target):
    process = subprocess.run(
        [sys.executable, "-m", "tests.emulation.resources", target],
        cwd=ROOT,
        env={name: x for name, x in os.environ.items() if name != "TRITON_INTERPRET"},
        capture_output=True,
        text=True,
    )
    assert process.returncode == 0, process.stderr
    rows = json.loads(process.stdout.splitlines()[-1])[target]
    assert resources.problems(target, rows, TABLE[target]) == []


class TestTheGate:
    """What the comparison must notice."""

    target = "sm_80"

    def rows(self):
        """The table, and of it a kernel with a product."""
        rows = copy.deepcopy(TABLE[self.target])
        return rows, next(x for kernels in rows.values() for x in kernels if x["matrix"])

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("spills", 3, "3 of spills"),
            ("stack", 16, "16 of stack"),
            ("matrix", {}, "no matrix instruction"),
            ("shared", 200 * 1024, "more than the GPU has"),
        ],
    )
    def test_a_fault(self, name, value, message):
        rows, row = self.rows()
        row[name] = value
        found = resources.problems(self.target, rows, rows)
        assert len(found) == 1 and message in found[0]

    @pytest.mark.parametrize("name", ["registers", "shared"])
    def test_growth(self, name):
        rows, row = self.rows()
        row[name] += 1
        found = resources.problems(self.target, rows, TABLE[self.target])
        assert len(found) == 1 and f"{name} grew" in found[0]
        row[name] -= 2
        assert resources.problems(self.target, rows, TABLE[self.target]) == []

    def test_a_case_or_kernel_that_is_not_in_the_table(self):
        rows, _ = self.rows()
        rows["new"] = []
        assert "the cases are not" in resources.problems(self.target, rows, TABLE[self.target])[0]
        rows, _ = self.rows()
        next(iter(rows.values())).clear()
        assert "0 kernels" in resources.problems(self.target, rows, TABLE[self.target])[0]
