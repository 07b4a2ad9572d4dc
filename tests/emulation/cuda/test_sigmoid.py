"""The CUDA kernels of the sigmoid loss against float64, whatever order threads take."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels.similarity import reference
from tests import rounding
from tests.emulation.cuda import build
from tests.emulation.cuda.run import SCHEDULES, Library
from tests.emulation.cuda.sigmoid import SOURCES, SigmoidCall
from tests.emulation.cuda.similarity import unit_like
from tests.emulation.cuda.test_logsumexp import DTYPES, assert_within

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())


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
    bias: float = -1.0,
    first: int = 0,
) -> dict[str, Any]:
    """Arguments of `sigmoid_loss`, with rows about as long as unit vectors."""
    q, k, _ = unit_like(m, n, d, dtype)
    return {"q": q, "k": k, "scale": scale, "bias": bias, "first": first}


def assert_right(
    arguments: dict[str, Any], schedule: str = "forward", weight: float = 1.0, shift: int = 0
) -> list[Any]:
    """Value and gradients are those of the definition; returns what was counted."""
    exact: dict[str, Any] = {
        name: torch.as_tensor(arguments[name]).double().requires_grad_()
        for name in ("q", "k", "scale", "bias")
    }
    expected = weight * reference.sigmoid_loss(**exact, first=arguments["first"])
    wanted = torch.autograd.grad(expected, list(exact.values()))
    with torch.no_grad():
        value_bound, bounds = tolerances(arguments, weight)

    call = SigmoidCall(**arguments, weight=weight, shift=shift)
    value, forward = call.value(library(), schedule=schedule)
    assert_within(value, expected.detach(), value_bound)
    found, backward = call.gradients(library(), schedule=schedule)
    assert_within(found.pop("value"), expected.detach(), value_bound)
    assert found.keys() == bounds.keys()
    for name, gradient in zip(exact, wanted, strict=True):
        assert_within(found[name], gradient, bounds[name])
    return forward + backward


def tolerances(arguments: dict[str, Any], weight: float) -> tuple[Tensor, dict[str, Tensor]]:
    q, k = arguments["q"].double(), arguments["k"].double()
    scale, bias, dtype = arguments["scale"], arguments["bias"], arguments["q"].dtype
    (m, d), n = q.shape, len(k)
    logits = scale * q @ k.T + bias
    pair = torch.arange(m)[:, None] + arguments["first"] == torch.arange(n)
    signed = torch.where(pair, logits, -logits)
    terms, loss = torch.sigmoid(-signed), -torch.nn.functional.logsigmoid(signed)
    largest = abs(scale) * float(q.norm(dim=1).max() * k.norm(dim=1).max()) + abs(bias)
    # Rows are of the format of the operands: nothing is rounded before it is summed.
    value = 2 * largest * rounding.sum_error(dtype, d) * terms.sum()
    value = value + rounding.sum_error(dtype, m, n) * loss.sum()
    error = rounding.probability_error(dtype, d, max(m, n), largest)
    stored = torch.float32 if dtype is torch.float16 else dtype
    inner = (terms * (q.abs() @ k.abs().T)).sum()
    magnitudes = {
        "q": (abs(scale) * terms @ k.abs(), stored),
        "k": (abs(scale) * terms.T @ q.abs(), stored),
        "scale": (inner, torch.float32),
        "bias": (terms.sum(), torch.float32),
    }
    bounds = {
        name: rounding.stored(weight * error * x, weight * x, kept)
        for name, (x, kept) in magnitudes.items()
    }
    return weight * value, bounds


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_any_order(dtype, schedule):
    assert_right(made(70, 130, 72, dtype=dtype, first=3), schedule)


@pytest.mark.parametrize(
    ("m", "n", "d"),
    [(1, 1, 1), (3, 65, 5), (129, 2, 16), (2, 300, 130), (300, 3, 200), (5, 70, 300), (3, 4, 1024)],
)
def test_ragged_sizes(m, n, d):
    """Chunks of features that stay or stream, and slices of them; columns for several blocks."""
    assert_right(made(m, n, d))


@pytest.mark.parametrize("first", [0, 1, 63, 64, 100, 255, 299, 300, 2**31, 2**40])
def test_pairs_begin_anywhere(first):
    """Tiles with pairs, beside them, and none at all."""
    assert_right(made(140, 300, 16, first=first))


@pytest.mark.parametrize(
    "options",
    [
        {"scale": -3.0},
        {"scale": 0.0},
        {"scale": 1.0, "bias": -20.0, "first": 80},  # losses far below one rounding of 1
        {"scale": 300.0, "bias": 0.0},  # exponentials that underflow
        {"bias": 50.0},
        {"bias": -200.0},
    ],
    ids=str,
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_options(dtype, options):
    assert_right(made(70, 80, 16, dtype=dtype, **options))


@pytest.mark.parametrize("dtype", DTYPES)
def test_mean_over_rows(dtype):
    assert_right(made(70, 300, 16, dtype=dtype), weight=1 / 70)


def test_rows_that_begin_anywhere():
    assert_right(made(40, 70, 24), shift=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype):
    call = SigmoidCall(**made(0, 70, 8, dtype=dtype))
    assert call.value(library())[0] == 0
    found, _ = call.gradients(library())
    assert all(not x.any() for x in found.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_propagates(value):
    arguments = made(200, 70, 8)
    arguments["q"][5] = value
    call = SigmoidCall(**arguments)
    assert not call.value(library())[0].isfinite()
    found, _ = call.gradients(library())
    assert not found["value"].isfinite() and not found["scale"].isfinite()
    assert not found["k"].isfinite().any()


@pytest.mark.parametrize("what", [{"first": -1}, {"d": 1025}, {"d": 0}])
def test_what_the_kernels_do_not_take_is_an_error(what):
    call = SigmoidCall(**made(3, 4, 8))
    for name, value in what.items():
        setattr(call.struct if name == "first" else call.struct.logits, name, value)
    for run in (call.value, call.gradients):
        with pytest.raises(RuntimeError, match="CUDA error 1"):
            run(library())


def test_banks_do_not_conflict():
    counts = assert_right(made(200, 200, 160))
    shared = [x for x in counts if x.shared]
    assert sum(x.moved for x in shared) <= 1.05 * sum(x.fewest for x in shared)
