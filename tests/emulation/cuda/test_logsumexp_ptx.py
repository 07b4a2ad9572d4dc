"""What nvcc makes of the engine's kernels for sm_80, run by the emulator of PTX."""

from __future__ import annotations

import functools
import re
import struct
from typing import Any

import numpy as np
import pytest
import torch

from sslkernels.native import cuda
from sslkernels.similarity import reference
from tests.emulation.cuda import build, nvcc, similarity, test_logsumexp
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.parameters import Struct
from tests.emulation.ptx.text import Kernel, kernels

THREADS, ROWS, COLUMNS = 128, 128, 64
SLOTS, SUMS = 48 << 10, 2 << 10  # bytes of shared memory
MOST_EXCLUDED = 8


@functools.cache
def compiled(source: str) -> dict[str, Kernel]:
    try:
        toolkit = cuda.find_toolkit(["8.0"])
    except cuda.NoToolkit as error:
        pytest.skip(str(error))
    return kernels(nvcc.ptx(toolkit, build.CSRC / "similarity" / source))


def kernel(name: str, source: str = "forward.cu") -> Kernel:
    """A kernel for bfloat16, or the only one; `name` is a part of what the compiler made of it."""
    every = compiled(source).values()
    [found] = [x for x in every if re.search(name, x.name) and "__half" not in x.name]
    return found


def problem_of(call: similarity.Call) -> Struct:
    """`Problem` of csrc/similarity/device_logits.h."""
    s = call.struct
    arrays = {0: call.inputs["q"], 24: call.inputs["q" if call.k is None else "k"]}
    arrays |= {48: call.inputs["scale"]}
    arrays |= {56: call.inputs["bias"]} if call.bias is not None else {}
    offsets = [int(x) % s.n for x in call.exclude]
    offsets += [0] * (MOST_EXCLUDED - len(offsets))
    matrices = [x for rows in (s.m, s.n) for x in (0, rows, s.d, s.d % 8 == 0)]
    data = struct.pack("<QII?7xQII?7xQQI8I4x", *matrices, 0, 0, s.excluded, *offsets)
    return Struct(data, {at: np.array(x) for at, x in arrays.items()})


def merged(partial: np.ndarray, lines: int, run: int) -> torch.Tensor:
    m = partial.shape[1]
    lse = np.full(m, np.nan, np.float32)
    grid = (-(-m // THREADS), 1, 1)
    launch(
        kernel("merge_rows", "merge.cu"),
        grid,
        [partial, m, lines, run, lse],
        threads=(THREADS, 1, 1),
    )
    return torch.from_numpy(lse)


def exact_rows(arguments: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor | None]:
    k = arguments["k"]
    return arguments["q"].double(), None if k is None else k.double()


def assert_close(lse: torch.Tensor, arguments: dict[str, Any]) -> None:
    given = {name: arguments[name] for name in ("scale", "bias", "exclude")}
    q, k = exact_rows(arguments)
    expected = reference.logsumexp(q, k, **given)
    torch.testing.assert_close(lse.double(), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("d", [40, 33, 136])
def test_rows_against_columns(d):
    """Features that are copied, that are loaded one by one, and chunks that stream."""
    arguments = test_logsumexp.made(70, 330, d, exclude=(3,), bias=True)
    call = similarity.Call(**arguments)
    partial = np.full((2, 70), np.nan, np.float32)
    counts = launch(
        kernel("sum_rows"),
        (1, 2, 1),
        [problem_of(call), 4, partial],
        threads=(THREADS, 1, 1),
        dynamic_shared=SLOTS,
    )
    assert_close(merged(partial, 2, 0), arguments)
    if d % 8 == 0:
        assert counts.wavefronts <= 1.05 * counts.fewest_wavefronts


def test_rows_against_themselves():
    arguments = test_logsumexp.made(300, None, 40, exclude=(0,))
    call = similarity.Call(**arguments)
    partial = np.full((3, 300), np.nan, np.float32)
    launch(
        kernel("sum_pairs"),
        (3, 3, 1),
        [problem_of(call), 2, partial],
        threads=(THREADS, 1, 1),
        dynamic_shared=SLOTS + SUMS,
    )
    assert_close(merged(partial, 3, 2), arguments)


@pytest.mark.ladder  # nvcc takes its time
@pytest.mark.parametrize("side", range(3))
@pytest.mark.parametrize("d", [40, 300])
def test_gradients(side, d):
    """Of rows that are queries, that are keys, and that are both; of two slices of features."""
    both = side == 2
    arguments = test_logsumexp.made(70, None if both else 90, d, exclude=(3,), bias=True)
    call = similarity.Call(**arguments)
    q, k = exact_rows(arguments)
    exact = [x.requires_grad_() for x in (q, k) if x is not None]
    given = {name: arguments[name] for name in ("scale", "bias", "exclude")}
    lse = reference.logsumexp(q, k, **given)
    grad = torch.linspace(-0.5, 1.5, len(lse))
    expected = torch.autograd.grad(lse, exact, grad.double())[side == 1]

    rows = len(expected)
    out = np.full((rows, d), -1, np.int16)
    upstream = {0: grad.numpy(), 8: lse.detach().float().numpy()}  # and no sums
    found = kernel(rf"add_gradients.*SideE{side}E", "backward.cu")
    counts = launch(
        found,
        (-(-rows // COLUMNS), -(-d // 256), 1),
        [problem_of(call), Struct(bytes(40), upstream), 4, Struct(bytes(16), {0: out})],
        threads=(THREADS, 1, 1),
        dynamic_shared=SLOTS,
    )
    gradient = torch.from_numpy(out).view(torch.bfloat16).double()
    assert float((gradient - expected).norm() / expected.norm()) < 0.01
    if d % 8 == 0:
        assert counts.wavefronts <= 1.05 * counts.fewest_wavefronts
