"""What nvcc makes of the kernels of both directions for sm_80, run by the emulator of PTX."""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import pytest
import torch

from sslkernels.similarity import reference
from tests.emulation.cuda import test_logsumexp_ptx as ptx
from tests.emulation.cuda import test_pairs
from tests.emulation.cuda.pairs import PairCall
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.parameters import Struct

pytestmark = pytest.mark.ladder  # nvcc takes its time

ARGUMENTS = test_pairs.made(140, 330, 40, first=100)


def exact() -> tuple[list[torch.Tensor], tuple[torch.Tensor, ...]]:
    """The inputs, which want gradients, and the terms."""
    inputs = [ARGUMENTS[name].double().requires_grad_() for name in "qk"]
    q, k = inputs
    return inputs, reference.pair_terms(q, k, ARGUMENTS["scale"], ARGUMENTS["first"])


def added(lines: np.ndarray) -> torch.Tensor:
    """The log-sum-exps of columns, a line after the other."""
    n = lines.shape[1]
    sums, lse = np.full((n, 2), np.nan, np.float32), np.full(n, np.nan, np.float32)
    for i, line in enumerate(lines):
        launch(
            ptx.kernel("add_columns", "pairs.cu"),
            (-(-n // ptx.THREADS), 1, 1),
            [line.copy(), 1, n, i == 0, sums, lse],
            threads=(ptx.THREADS, 1, 1),
        )
    return torch.from_numpy(lse)


def test_terms():
    shapes = ((2, 140), (2, 330), (140,))
    rows, columns, pair_logit = (np.full(shape, np.nan, np.float32) for shape in shapes)
    out = Struct(bytes(24), {0: rows, 8: columns, 16: pair_logit})
    launch(
        ptx.kernel("sum_both_ways", "pairs.cu"),
        (2, 2, 1),
        [ptx.problem_of(PairCall(**ARGUMENTS).logits), ARGUMENTS["first"], 4, out],
        threads=(ptx.THREADS, 1, 1),
        dynamic_shared=ptx.SLOTS + ptx.SUMS,
    )
    found = ptx.merged(rows, 2, 0), added(columns), torch.from_numpy(pair_logit)
    for ours, want in zip(found, exact()[1], strict=True):
        torch.testing.assert_close(ours.double(), want.detach(), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["q", "k"])
def test_gradients(name):
    inputs, terms = exact()
    grads = test_pairs.upstream_of(ARGUMENTS)
    wanted = torch.autograd.grad(terms, inputs, [x.double() for x in grads])[name == "k"]
    given: dict[str, Any] = dict(ARGUMENTS)
    sides = [x.detach().float().numpy() for x in (grads[0], terms[0], grads[1], terms[1])]
    offset = ARGUMENTS["first"]
    if name == "k":
        given |= {"q": ARGUMENTS["k"], "k": ARGUMENTS["q"]}
        sides, offset = sides[2:] + sides[:2], -offset
    rows, others = len(given["q"]), len(given["k"])
    out = np.full((rows, 40), -1, np.int16)
    upstream = {8 * i: x for i, x in enumerate([*sides, grads[2].numpy()])}
    arguments = [
        ptx.problem_of(PairCall(**given).logits),
        Struct(struct.pack("<48xi12x", offset), upstream),
        -(-others // ptx.COLUMNS),
        Struct(bytes(16), {0: out}),
    ]
    launch(
        ptx.kernel("add_gradients", "pairs_backward.cu"),
        (-(-rows // ptx.COLUMNS), 1, 1),
        arguments,
        threads=(ptx.THREADS, 1, 1),
        dynamic_shared=ptx.SLOTS,
    )
    gradient = torch.from_numpy(out).view(torch.bfloat16).double()
    assert float((gradient - wanted).norm() / wanted.norm()) < 0.01
