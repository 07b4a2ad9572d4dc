"""The CUDA kernels of both directions' log-sum-exps against float64, in any order of threads."""

from __future__ import annotations

import ctypes
import functools
import sys
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels.similarity import reference
from tests import rounding
from tests.emulation.cuda import build
from tests.emulation.cuda.defects import changed
from tests.emulation.cuda.pairs import SOURCES, PairCall
from tests.emulation.cuda.run import SCHEDULES, Library
from tests.emulation.cuda.similarity import unit_like
from tests.emulation.cuda.test_logsumexp import DTYPES, assert_within

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())


SMALL_PANELS = ("pairs.cu", "kPanelBlocks = 64", "kPanelBlocks = 2")
"""Of 256 rows instead of 8192, which would take their time."""


@functools.cache
def library() -> Library:
    return Library(*SOURCES)


def made(
    m: int,
    n: int,
    d: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    scale: float = 2.0,
    first: int = 0,
) -> dict[str, Any]:
    """Arguments of `pair_terms`, with rows about as long as unit vectors."""
    q, k, _ = unit_like(m, n, d, dtype)
    return {"q": q, "k": k, "scale": scale, "first": first}


def upstream_of(
    arguments: dict[str, Any], factor: float = 1.0, of_rows: float = 1.0
) -> list[Tensor]:
    """Of rows, which are multiplied with `of_rows` besides, of columns and of pairs."""
    m, n = len(arguments["q"]), len(arguments["k"])
    ends = ((-0.5 * of_rows, 1.5 * of_rows, m), (1.0, -0.3, n), (-2.0, 1.0, m))
    return [factor * torch.linspace(*each) for each in ends]


def assert_right(
    arguments: dict[str, Any],
    schedule: str = "forward",
    grad_scale: float = 1.0,
    of_rows: float = 1.0,
    shift: int = 0,
) -> list[Any]:
    """Terms and gradients are those of the definition; returns what was counted."""
    exact: dict[str, Any] = {
        name: torch.as_tensor(arguments[name]).double().requires_grad_()
        for name in ("q", "k", "scale")
    }
    expected = reference.pair_terms(**exact, first=arguments["first"])
    grads = upstream_of(arguments, grad_scale, of_rows)
    wanted = torch.autograd.grad(expected, list(exact.values()), [x.double() for x in grads])
    with torch.no_grad():
        term_bounds, bounds = tolerances(arguments, [x.double() for x in grads])

    call = PairCall(**arguments, shift=shift)
    terms, forward = call.forward(library(), schedule=schedule)
    for found, want, bound in zip(terms, expected, term_bounds, strict=True):
        assert_within(found, want.detach(), bound)
    gradients, backward = call.backward(library(), grads, terms, schedule=schedule)
    for (name, found), want in zip(gradients.items(), wanted, strict=True):
        assert_within(found, want, bounds[name])
    return forward + backward


def tolerances(
    arguments: dict[str, Any], grads: list[Tensor]
) -> tuple[list[Tensor], dict[str, Tensor]]:
    q, k, dtype = arguments["q"].double(), arguments["k"].double(), arguments["q"].dtype
    scale = torch.tensor(arguments["scale"], dtype=torch.float64)
    of_rows, of_columns, of_pairs = grads
    row_lse, by_row = rounding.engine(dtype, of_rows, q, k, scale, None, ())
    column_lse, by_column = rounding.engine(dtype, of_columns, k, q, scale, None, ())
    largest = float(scale.abs() * q.norm(dim=1).max() * k.norm(dim=1).max())
    # Rows are of the format of the operands: nothing is rounded before it is summed.
    pair_logit = torch.tensor(largest * rounding.sum_error(dtype, q.shape[1]))
    error = rounding.probability_error(dtype, q.shape[1], 1, largest)
    partners = k[arguments["first"] :][: len(q)].abs()
    terms = {name: torch.zeros_like(x) for name, x in (("q", q), ("k", k))}
    terms["q"] = scale.abs() * of_pairs.abs()[:, None] * partners
    own = scale.abs() * of_pairs.abs()[:, None] * q.abs()
    terms["k"][arguments["first"] :][: len(q)] = own
    terms["scale"] = (of_pairs.abs() * (q.abs() * partners).sum(1)).sum()
    swapped = {"q": "k", "k": "q", "scale": "scale"}
    bounds = {
        name: by_row[name] + by_column[swapped[name]] + rounding.stored(error * x, x, dtype)
        for name, x in terms.items()
    }
    return [row_lse, column_lse, pair_logit], bounds


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_any_order(dtype, schedule):
    assert_right(made(140, 200, 72, dtype=dtype, first=3), schedule)


@pytest.mark.parametrize(
    ("m", "n", "d"),
    [
        (1, 1, 1),
        (3, 65, 5),
        (129, 129, 16),
        (2, 300, 130),
        (65, 70, 200),
        (5, 70, 300),
        (3, 4, 999),
    ],
)
def test_ragged_sizes(m, n, d):
    """Chunks of features that stay or stream, and slices of them; columns for several blocks."""
    assert_right(made(m, n, d))


@pytest.mark.parametrize("first", [0, 1, 63, 64, 100, 160])
def test_pairs_begin_anywhere(first):
    assert_right(made(140, 300, 16, first=first))


@pytest.mark.slow  # a compilation
@pytest.mark.parametrize("dtype", DTYPES)
def test_panels_of_rows(monkeypatch, tmp_path, dtype):
    """Full ones and a last one, with sums of columns from one to the next."""
    small = changed(tmp_path, SOURCES, SMALL_PANELS)
    monkeypatch.setattr(sys.modules[__name__], "library", lambda: small)
    for m in (256, 512, 600):
        assert_right(made(m, 610, 8, dtype=dtype, first=7))


def test_memory_is_linear_in_rows_and_columns():
    call = PairCall(**made(3, 4, 8))
    logits = call.struct.logits
    for logits.m in (2**10, 2**20, 2**30):
        logits.n = logits.m
        floats = library().number("sslk_cuda_pairs_workspace", ctypes.byref(call.struct))
        assert floats <= 66 * logits.n + 2**17


@pytest.mark.parametrize("scale", [-3.0, 0.0, 40.0])
def test_scales(scale):
    assert_right(made(150, 160, 16, scale=scale))


def test_logits_far_apart():
    """Where one shift of the exponents does not serve all rows and columns of a tile."""
    arguments = made(200, 210, 16, scale=300.0)
    arguments["q"][::3] *= 0.1
    arguments["k"][1::5] *= 5
    assert_right(arguments)


@pytest.mark.parametrize(("grad_scale", "of_rows"), [(1e-7, 1), (1e4, 1), (1, 1e-6), (1, 1e4)])
def test_float16_gradients_of_any_size(grad_scale, of_rows):
    """Upstream gradients below float16's range, before a loss scaler's factor, and far above 1."""
    arguments = made(70, 80, 16, dtype=torch.float16)
    assert_right(arguments, grad_scale=grad_scale, of_rows=of_rows)


def test_rows_that_begin_anywhere():
    assert_right(made(40, 70, 24), shift=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype):
    arguments = made(0, 70, 8, dtype=dtype)
    call = PairCall(**arguments)
    terms, _ = call.forward(library())
    assert terms[0].shape == terms[2].shape == (0,)
    assert torch.equal(terms[1], torch.full((70,), float("-inf")))
    found, _ = call.backward(library(), upstream_of(arguments), terms)
    assert all(not x.any() for x in found.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_propagates(value):
    arguments = made(200, 210, 8)
    arguments["q"][5, 0] = value
    terms, _ = PairCall(**arguments).forward(library())
    q, k = arguments["q"].double(), arguments["k"].double()
    for found, want in zip(terms, reference.pair_terms(q, k, arguments["scale"]), strict=True):
        torch.testing.assert_close(found.double(), want, rtol=1e-2, atol=1e-2, equal_nan=True)


@pytest.mark.parametrize("what", [{"first": -1}, {"first": 2}, {"d": 1025}, {"d": 0}])
def test_what_the_kernels_do_not_take_is_an_error(what):
    call = PairCall(**made(3, 4, 8))
    for name, value in what.items():
        setattr(call.struct if name == "first" else call.struct.logits, name, value)
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.forward(library())
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.backward(library(), [torch.ones(3)] * 3, [torch.ones(3)] * 3)


def test_banks_do_not_conflict():
    counts = assert_right(made(200, 200, 160))
    shared = [x for x in counts if x.shared]
    assert sum(x.moved for x in shared) <= 1.05 * sum(x.fewest for x in shared)
