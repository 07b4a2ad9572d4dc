"""nvcc and ptxas accept the kernels for every architecture: no spill, and no growth unnoticed."""

from __future__ import annotations

import copy
import json

import pytest

from sslkernels.native import cuda
from tests.emulation.cuda import nvcc

TABLE = json.loads(nvcc.TABLE.read_text())


def toolkit_or_skip(architecture: str) -> cuda.Toolkit:
    try:
        return cuda.find_toolkit([architecture])
    except cuda.NoToolkit as error:
        pytest.skip(str(error))


def test_the_table_has_every_architecture_and_no_faults():
    assert TABLE.keys() == set(nvcc.ARCHITECTURES)
    assert [x.removesuffix("+PTX") for x in cuda.DEFAULT_ARCHITECTURES] == list(nvcc.ARCHITECTURES)
    for rows in TABLE.values():
        assert nvcc.problems(rows, rows) == []


def test_one_kernel_against_the_table():
    source = next(x for x in nvcc.sources() if x.name == "mask_tokens.cu")
    rows = nvcc.measured(toolkit_or_skip("8.0"), source)
    assert nvcc.problems(rows, {name: TABLE["8.0"][name] for name in rows}) == []


FIRST, *BETWEEN, LAST = nvcc.ARCHITECTURES


@pytest.mark.parametrize(
    "architecture",
    [
        *(pytest.param(name, marks=pytest.mark.slow) for name in (FIRST, LAST)),
        *(pytest.param(name, marks=pytest.mark.ladder) for name in BETWEEN),  # for their minutes
    ],
)
def test_all_kernels_against_the_table(architecture):
    toolkit = toolkit_or_skip(architecture)
    rows = {}
    for source in nvcc.sources():
        rows |= nvcc.measured(toolkit, source)
    assert nvcc.problems(rows, TABLE[architecture]) == []


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("spills", "4 bytes of spills"),
        ("registers", "registers grew"),
        ("stack", "stack grew"),
        ("shared", "shared grew"),
    ],
)
def test_the_gate_notices(what, message):
    rows = copy.deepcopy(TABLE["8.0"])
    name = next(iter(rows))
    rows[name][what] += 4
    [found] = nvcc.problems(rows, TABLE["8.0"])
    assert name in found and message in found


def test_the_gate_notices_a_new_kernel():
    rows = {**TABLE["8.0"], "new": {"registers": 1, "stack": 0, "spills": 0, "shared": 0}}
    [found] = nvcc.problems(rows, TABLE["8.0"])
    assert "['new']" in found
