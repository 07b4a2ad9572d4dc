"""What nvcc makes of the sigmoid loss's kernels for sm_80, run by the emulator of PTX."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import torch

from sslkernels.similarity import reference
from tests.emulation.cuda import test_logsumexp_ptx as ptx
from tests.emulation.cuda import test_sigmoid
from tests.emulation.cuda.sigmoid import SigmoidCall
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.parameters import Struct

pytestmark = pytest.mark.ladder  # nvcc takes its time

ARGUMENTS = test_sigmoid.made(70, 330, 40, first=100, bias=-3.0)
WEIGHT = 0.25
ROOM = {"threads": (ptx.THREADS, 1, 1), "dynamic_shared": ptx.SLOTS}


def sigmoid_and(sums: np.ndarray | None = None) -> Struct:
    """`Sigmoid` of csrc/similarity/device_sigmoid.h, or what a gradient's kernel is given."""
    bias = np.array([ARGUMENTS["bias"]], np.float32)
    data = struct.pack("<QIf", 0, ARGUMENTS["first"], WEIGHT)
    return Struct(data, {0: bias}) if sums is None else Struct(data + bytes(8), {0: bias, 16: sums})


def expected() -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """The value and its gradients."""
    names = ("q", "k", "bias", "scale")
    exact: dict[str, Any] = {
        x: torch.as_tensor(ARGUMENTS[x]).double().requires_grad_() for x in names
    }
    value = WEIGHT * reference.sigmoid_loss(**exact, first=ARGUMENTS["first"])
    gradients = torch.autograd.grad(value, list(exact.values()))
    return value.detach(), dict(zip(names, gradients, strict=True))


def test_value():
    partial = np.full(2, np.nan, np.float32)
    problem = ptx.problem_of(SigmoidCall(**ARGUMENTS).logits)
    arguments = [problem, sigmoid_and(), 4, partial]
    launch(ptx.kernel("add_losses", "sigmoid.cu"), (1, 2, 1), arguments, **ROOM)
    assert partial.sum() == pytest.approx(float(expected()[0]), rel=1e-5)


@pytest.mark.parametrize(("side", "name"), [(0, "q"), (1, "k")])
def test_gradients(side, name):
    value, wanted = expected()
    rows, others = (len(ARGUMENTS[x]) for x in ("qk" if side == 0 else "kq"))
    blocks, tiles = -(-rows // ptx.COLUMNS), -(-others // ptx.COLUMNS)
    out = np.full((rows, 40), -1, np.int16)
    sums = np.full((3, blocks), np.nan, np.float32)
    problem = ptx.problem_of(SigmoidCall(**ARGUMENTS).logits)
    arguments = [problem, sigmoid_and(sums), tiles, Struct(bytes(16), {0: out})]
    found = ptx.kernel(rf"add_gradients.*SideE{side}E", "sigmoid.cu")
    launch(found, (blocks, 1, 1), arguments, **ROOM)
    gradient = torch.from_numpy(out).view(torch.bfloat16).double()
    assert float((gradient - wanted[name]).norm() / wanted[name].norm()) < 0.01
    if side == 0:
        numbers = [value, wanted["bias"], wanted["scale"]]
        assert sums.sum(1) == pytest.approx([float(x) for x in numbers], rel=1e-4)
