"""What nvcc makes of the kernels of a cross entropy's terms, run by the emulator of PTX."""

from __future__ import annotations

import math
import struct

import numpy as np
import pytest
import torch
from torch import Tensor

from tests.emulation.cuda import test_logsumexp_ptx as ptx
from tests.emulation.cuda import test_terms
from tests.emulation.cuda.terms import TermsCall
from tests.emulation.ptx.errors import AssertionFailed
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.parameters import Struct

pytestmark = pytest.mark.ladder  # nvcc takes its time

ARGUMENTS = test_terms.made(200, 330, 40, softcap=1.5)
COUNTED = (ARGUMENTS["target"] >= 0).nonzero()[:, 0]
NO_ROW = 2**32 - 1


def terms() -> Struct:
    """`Terms` of csrc/similarity/device_terms.h."""
    cap = ARGUMENTS["softcap"] / math.log(2)
    arrays = {0: ARGUMENTS["target"].numpy(), 8: ARGUMENTS["column_weight"].numpy()}
    return Struct(struct.pack("<16xff", cap, 1 / cap), arrays)


def numbered() -> tuple[np.ndarray, ...]:
    """The rows that count, where each row is among them, and how many there are."""
    number, position = (np.full(200, NO_ROW, np.uint32) for _ in range(2))
    number[: len(COUNTED)] = COUNTED
    position[COUNTED] = np.arange(len(COUNTED))
    return number, position, np.array([len(COUNTED)], np.uint32)


def number_rows(target: Tensor) -> tuple[np.ndarray, ...]:
    found = tuple(np.full(size, NO_ROW, np.uint32) for size in (200, 200, 1))
    launch(
        ptx.kernel("number_in_one_block", "counted_rows.cu"),
        (1, 1, 1),
        [target.numpy(), 200, 330, Struct(bytes(24), {8 * i: x for i, x in enumerate(found)})],
        threads=(1024, 1, 1),
    )
    return found


def test_numbers():
    for ours, want in zip(number_rows(ARGUMENTS["target"]), numbered(), strict=True):
        assert np.array_equal(ours, want)


@pytest.mark.parametrize("target", [-2, 330])
def test_a_target_out_of_range_ends_the_kernel(target):
    wrong = ARGUMENTS["target"].clone()
    wrong[100] = target
    with pytest.raises(AssertionFailed):
        number_rows(wrong)


def test_sums():
    lines, count = 2, len(COUNTED)
    partial = np.full((lines, count, 4), np.nan, np.float32)
    number, position, size = numbered()
    launch(
        ptx.kernel("sum_terms", "terms.cu"),
        (lines * -(-count // ptx.ROWS) + 1, 1, 1),  # one more than are at work
        [
            ptx.problem_of(TermsCall(**ARGUMENTS).logits),
            terms(),
            Struct(bytes(24), {0: number, 8: position, 16: size}),
            partial,
        ],
        threads=(ptx.THREADS, 1, 1),
        dynamic_shared=ptx.SLOTS,
    )
    found = torch.from_numpy(partial).double() * math.log(2)
    ours = (
        found[:, :, 0].logsumexp(0),
        found[:, :, 1].sum(0),
        found[:, :, 2].sum(0),
        found[:, :, 3].amax(0),
    )
    for mine, want in zip(ours, test_terms.exact_terms(ARGUMENTS)[1], strict=True):
        torch.testing.assert_close(mine, want.detach()[COUNTED], rtol=1e-5, atol=1e-5)


def wanted_gradients(grads: list[Tensor]) -> tuple[Tensor, ...]:
    """Of q and k, and the lse."""
    given, (lse, target_logit, weighted, _) = test_terms.exact_terms(ARGUMENTS)
    upstream = [x.double() for x in grads]
    inputs = [given["q"], given["k"]]
    dq, dk = torch.autograd.grad([lse, target_logit, weighted], inputs, upstream)
    return dq[COUNTED], dk, lse.detach()


@pytest.mark.parametrize("side", [0, 1])
def test_gradients(side):
    """Of the rows that count, in one line and rounded; of the keys."""
    grads = test_terms.upstream_of(200)
    *wanted, lse = wanted_gradients(grads)
    count, rows = len(COUNTED), (200, 330)[side]
    number, position, size = numbered()
    padded = torch.stack([*grads, torch.zeros(200)], 1)[COUNTED].contiguous().numpy()
    bits = (lse[COUNTED] / math.log(2)).float().numpy().view(np.uint32)
    targets = np.stack([bits, ARGUMENTS["target"][COUNTED].numpy().astype(np.uint32)], 1)
    # Several lines, which are added up afterwards.
    others = (330, count)[side]
    tiles = -(-others // ptx.COLUMNS)
    lines = -(-tiles // 4)
    own = (count, 330)[side]
    blocks = -(-own // ptx.COLUMNS) * lines
    sums = np.full((lines, own, 40), np.nan, np.float32)
    gradient, products = np.full((rows, 40), -1, np.int16), np.zeros(blocks, np.float32)
    bias = np.full((lines, 330), np.nan, np.float32)
    out = {0: gradient, 8: sums} | ({16: bias[0], 24: bias} if side else {32: products})
    launch(
        ptx.kernel(f"add_term_gradients.*SideE{side}ELb1E", "terms_backward.cu"),
        (blocks, 1, 1),
        [
            ptx.problem_of(TermsCall(**ARGUMENTS).logits),
            terms(),
            Struct(bytes(24), {0: number, 8: position, 16: size}),
            Struct(bytes(24), {0: padded, 8: targets}),
            Struct(struct.pack("<8xqqqi4x", 200, 330, 40, side), {0: size}),
            Struct(bytes(40), out),
        ],
        threads=(ptx.THREADS, 1, 1),
        dynamic_shared=ptx.SLOTS,
    )
    if lines > 1:
        found = torch.from_numpy(sums).double().sum(0)
    else:
        found = torch.from_numpy(gradient).view(torch.bfloat16).double()
    assert float((found - wanted[side]).norm() / wanted[side].norm()) < 0.01
