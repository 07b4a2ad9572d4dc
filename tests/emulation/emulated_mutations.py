"""Every shipped kernel, as compiled for sm_80, with one thing wrong at a time: each defect must be
caught, by a fault of the emulator or by the values.

Sizes are such that loops go round and tiles are ragged: what orders one round and the next, and
what keeps a tile within its tensor, then matters.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sslkernels import backends
from sslkernels.similarity.triton import configurations, forward, symmetric, symmetric_gradients
from sslkernels.similarity.triton.forward import Logits
from sslkernels.similarity.triton.gradients import Upstream, write_gradient
from sslkernels.similarity.triton.products import Products
from tests.emulation import kinds
from tests.emulation.ptx import errors
from tests.emulation.ptx.launches import emulated

Results = list[tuple[Tensor, Tensor]]
"""What a kernel gave, and what it should be."""

SCALE = torch.tensor(1.5)
SUBJECTS: dict[str, Callable[[torch.dtype], Results]] = {}


def subject(function: Callable[[torch.dtype], Results]) -> Callable[[torch.dtype], Results]:
    SUBJECTS[function.__name__] = function
    return function


def rows(dtype: torch.dtype, count: int, features: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (torch.randn(count, features, generator=generator) / features**0.5).to(dtype)


def products(q: Tensor, k: Tensor) -> Tensor:
    return q.double() @ k.double().T


def precision(dtype: torch.dtype) -> str:
    return configurations.precision(dtype, backends.matmul_precision())


@subject
def row_terms(dtype: torch.dtype) -> Results:
    q, k = rows(dtype, 70, 48, 0), rows(dtype, 300, 48, 1)
    lse = forward.row_logsumexp(Logits(q, k, SCALE, None, precision=precision(dtype)))
    return [(lse, torch.logsumexp(SCALE * products(q, k), 1))]


@subject
def gradient(dtype: torch.dtype) -> Results:
    q, k = rows(dtype, 70, 208, 0), rows(dtype, 75, 208, 1)
    bias = torch.linspace(-1, 1, 75)
    logits = SCALE * products(q, k) + bias
    lse, grad = torch.logsumexp(logits, 1), torch.linspace(-1, 1, 70)
    block = q.new_zeros(70, 80)
    given = Logits(q, k, SCALE, bias, precision=precision(dtype))
    sums, inner = write_gradient(given, Upstream(grad), lse.float(), None, None, 0, block)
    expected = torch.exp(logits - lse[:, None]) * grad[:, None]
    return [
        (block[:, :75], expected),
        (sums, expected.sum(0)),
        (inner, (expected * products(q, k)).sum()),
    ]


def product(dtype: torch.dtype, transpose: bool) -> Results:
    block, other = rows(dtype, 208, 150, 0), rows(dtype, 208 if transpose else 150, 144, 1)
    padded = torch.nn.functional.pad(block, (0, 10))
    out = torch.zeros(150 if transpose else 208, 144)
    given = Logits(other, rows(dtype, 150, 1, 2), SCALE, None, precision=precision(dtype))
    Products(given, SCALE, dtype)._multiply(
        padded, other, out, 0, transpose=transpose, accumulate=False
    )
    left = block.double().T if transpose else block.double()
    return [(out, SCALE * (left @ other.double()))]


@subject
def product_plain(dtype: torch.dtype) -> Results:
    return product(dtype, transpose=False)


@subject
def product_transposed(dtype: torch.dtype) -> Results:
    return product(dtype, transpose=True)


@subject
def symmetric_forward(dtype: torch.dtype) -> Results:
    q = rows(dtype, 2 * configurations.symmetric(dtype, 48).rows + 12, 48, 0)
    q[:9] *= 30  # tiles with these rows need the way for log-sum-exps far apart
    given = Logits(q, q, SCALE, None, (0,), precision=precision(dtype))
    return [(symmetric.row_logsumexp(given), torch.logsumexp(without_self(q), 1))]


def without_self(q: Tensor) -> Tensor:
    logits = SCALE * products(q, q)
    return logits.fill_diagonal_(float("-inf"))


def symmetric_gradient(dtype: torch.dtype, kernel: Callable[..., tuple[Tensor, Tensor]]) -> Results:
    q, grad = rows(dtype, 150, 48, 0), torch.linspace(-1, 1, 150)
    logits = without_self(q)
    lse = torch.logsumexp(logits, 1)
    given = Logits(q, q, SCALE, None, (0,), precision=precision(dtype))
    found, inner = kernel(given, grad, lse.float())
    share = torch.exp(logits - lse[:, None]) * grad[:, None]
    return [
        (found, (share + share.T) @ q.double()),
        (inner, (share * products(q, q)).sum()),
    ]


@subject
def symmetric_atomics(dtype: torch.dtype) -> Results:
    return symmetric_gradient(dtype, symmetric_gradients.added)


@subject
def symmetric_owned(dtype: torch.dtype) -> Results:
    return symmetric_gradient(dtype, symmetric_gradients.owned)


def run(name: str, kind: str, change: Callable[[str], str] = lambda ptx: ptx) -> str:
    """The code that ran; raises where it or its values are wrong."""
    ran: list[str] = []
    with (
        kinds.chosen(kind) as dtype,
        emulated(lambda ptx: ran.append(change(ptx)) or ran[-1]),
    ):
        found = SUBJECTS[name](dtype)
    unit = 2.0**-15 if kind == "float32-high" else torch.finfo(dtype).eps
    for value, expected in found:
        allowed = 3 * unit * float(expected.abs().max()) + 1e-5
        torch.testing.assert_close(value.double(), expected.double(), rtol=0, atol=allowed)
    [ptx] = ran
    return ptx


@functools.cache
def right_code(name: str, kind: str) -> str:
    """The code that ran and was right."""
    return run(name, kind)


@pytest.fixture(autouse=True)
def many_tiles_in_a_program(monkeypatch):
    monkeypatch.setattr(configurations, "architecture", lambda: "sm_80")
    for module in (forward, symmetric):
        monkeypatch.setattr(module, "_PROGRAMS", 1)


CAUGHT = (errors.Fault, AssertionError)
BARRIER = r"bar\.sync\s+0;"
WAIT = r"cp\.async\.wait_group\s+\d+;"
ADDRESS = r"(?<=\+ )0(?= \][^;]*;)"
DRAIN = re.compile(rf"cp\.async\.wait_group\s+0;\s+{BARRIER}")
FIRST_USE = re.compile(r"ld\.shared|ldmatrix|st\.shared|wait_group")
MOST = 8
"""Of the addresses of a kernel, so many are broken; of its barriers and waits, all."""

HARMLESS = {
    (BARRIER, "symmetric_owned", "float32-highest"),
    (ADDRESS, "symmetric_atomics", "bfloat16"),
    (ADDRESS, "symmetric_atomics", "float16"),
}
"""One place each that changes nothing: a barrier where warps overwrite only what they have read
themselves; the shift of exponents, of which any will do."""

KINDS = pytest.mark.parametrize("kind", kinds.KINDS)
OF_EACH_WIDTH = pytest.mark.parametrize("kind", ["bfloat16", "float32-highest"])
NAMES = pytest.mark.parametrize("name", SUBJECTS)


def mutants(ptx: str, pattern: str, replacement: str) -> list[tuple[int, str]]:
    """The code with one place changed, and its line; not where there is nothing to order.

    That is so before shared memory is used, and after a loop, when Triton drains its pipeline even
    if no copy is left.
    """
    used = FIRST_USE.search(ptx)
    drains = [range(*x.span()) for x in DRAIN.finditer(ptx)][1:]
    found = []
    for place in re.finditer(pattern, ptx):
        idle = pattern == BARRIER and used is not None and place.start() < used.start()
        if not idle and not any(place.start() in drain for drain in drains):
            line = ptx.count("\n", 0, place.start()) + 1
            found.append((line, ptx[: place.start()] + replacement + ptx[place.end() :]))
    return found


def noticed(name: str, kind: str, pattern: str, replacement: str) -> None:
    """Each change of one place must be."""
    ptx, found = right_code(name, kind), []
    chosen = mutants(ptx, pattern, replacement)
    if pattern == ADDRESS:
        assert chosen
        chosen = chosen[:: -(-len(chosen) // MOST)]
    for line, broken in chosen:
        try:
            run(name, kind, lambda _, broken=broken: broken)
        except CAUGHT:
            continue
        found.append(f"line {line}: {ptx.splitlines()[line - 1].strip()}")
    assert len(found) <= ((pattern, name, kind) in HARMLESS), found


@OF_EACH_WIDTH
@NAMES
def test_no_barrier(name, kind):
    noticed(name, kind, BARRIER, "")


@KINDS
@NAMES
def test_no_wait(name, kind):
    noticed(name, kind, WAIT, "")


@KINDS
@NAMES
def test_off_by_one(name, kind):
    noticed(name, kind, ADDRESS, "4")


@pytest.mark.parametrize("change", ["no load", "no store", "wrong"])
@KINDS
@NAMES
def test_masks(name, kind, change):
    """All of them at once: a tile that lies within its tensor needs none."""
    with pytest.raises(CAUGHT):
        run(name, kind, MASKS[change])


def without_load_masks(ptx: str) -> str:
    """The mask of a copy is in how many bytes it reads."""
    ptx = re.sub(r"@%p\d+ (?=ld\.global)", "", ptx)
    return re.sub(r"(cp\.async\.c[ag]\.[^;]*\], 0x\w+), %r\d+;", r"\1;", ptx)


def without_store_masks(ptx: str) -> str:
    return re.sub(r"@%p\d+ (?=(st\.global|atom\.|red\.))", "", ptx)


def off_by_one_masks(ptx: str) -> str:
    return ptx.replace("setp.lt.s32", "setp.le.s32").replace("setp.gt.s32", "setp.ge.s32")


MASKS = {"no load": without_load_masks, "no store": without_store_masks, "wrong": off_by_one_masks}
