"""What is timed is the same loss everywhere, and the float64 truth is right."""

from __future__ import annotations

import pytest
import torch

from benchmarks import accuracy
from benchmarks.case import Case
from benchmarks.nt_xent import NTXent, eager_nt_xent, exact_nt_xent
from benchmarks.registry import OURS, loss_and_gradients

OP = NTXent()
PLAIN = [one for one in OP.implementations if not one.compiled]


def _case(dtype: str = "float32", shape: tuple[int, int] = (16, 8)) -> Case:
    return Case("nt_xent", shape, dtype, parameters={"temperature": 0.1})


@pytest.mark.parametrize("kind", OP.input_kinds)
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("one", PLAIN, ids=lambda one: one.name)
def test_every_implementation_computes_the_same_loss(one, dtype: str, kind: str) -> None:
    if one.absent:
        pytest.skip(one.absent)
    case = _case(dtype)
    inputs = OP.inputs(case, kind)
    error = accuracy.error_of(one.name, one.build(case), inputs, OP.exact(case, inputs), kind)
    assert accuracy.is_different(error, case) is None
    assert error.gradient < {"bfloat16": 0.1, "float32": 1e-5, "float64": 1e-12}[dtype]


def test_a_different_loss_is_noticed() -> None:
    case = _case()
    inputs = OP.inputs(case, "correlated")
    truth = OP.exact(case, inputs)
    wrong = accuracy.error_of("x", lambda a, b: eager_nt_xent(a, b, 0.11), inputs, truth, "c")
    assert "computes a different loss" in (accuracy.is_different(wrong, case) or "")


def test_not_a_number_is_a_different_loss() -> None:
    error = accuracy.Error(OURS, "correlated", float("nan"), 0.0)
    assert accuracy.is_different(error, _case()) is not None


def test_exact_in_blocks_agrees_with_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.nt_xent.BLOCK_ROWS", 5)
    z1, z2 = (torch.randn(9, 4, dtype=torch.float64, requires_grad=True) for _ in range(2))
    loss, gradients = exact_nt_xent(z1, z2, 0.3)
    wanted, wanted_gradients = loss_and_gradients(lambda a, b: eager_nt_xent(a, b, 0.3), (z1, z2))
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradients, wanted_gradients)


def test_inputs_are_the_same_every_time_and_leaves() -> None:
    first, second = (OP.inputs(_case(), "correlated") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    assert all(z.is_leaf and z.requires_grad and z.shape == (8, 8) for z in first)


def test_absent_baselines_are_named_with_the_way_to_install_them() -> None:
    from dataclasses import replace

    gone = replace(OP.implementation("lightly"), module="surely_not_installed")
    assert gone.absent == "surely_not_installed is not installed: pip install lightly"


def test_grid_has_the_published_rows() -> None:
    timed = {(c.shape, c.kind) for c in OP.grid(quick=False) if not c.memory_only}
    shapes = [(512, 128), (2048, 128), (4096, 128), (8192, 128), (4096, 512)]
    kinds = ["bfloat16", "float32 highest", "float32 high"]
    assert {(shape, kind) for shape in shapes for kind in kinds} < timed
    assert {c.shape for c in OP.grid(False) if c.memory_only} == {(16384, 128), (65536, 128)}
