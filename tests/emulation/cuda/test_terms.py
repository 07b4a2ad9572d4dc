"""The CUDA kernels of a cross entropy's terms against float64, in any order of threads."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels.similarity import reference
from tests import rounding
from tests.emulation.cuda import build
from tests.emulation.cuda.run import SCHEDULES, Fault, Library
from tests.emulation.cuda.similarity import unit_like
from tests.emulation.cuda.terms import SOURCES, TermsCall
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
    bias: bool = True,
    weight: bool = True,
    softcap: float = 0.0,
    counted: float = 0.6,
) -> dict[str, Any]:
    """Arguments of `logit_terms`, with rows about as long as unit vectors; `counted` of 1."""
    q, k, generator = unit_like(m, n, d, dtype)
    target = torch.randint(0, n, (m,), generator=generator)
    return {
        "q": q,
        "k": k,
        "target": target.masked_fill(torch.rand(m, generator=generator) >= counted, -1),
        "scale": scale,
        "bias": torch.randn(n, generator=generator) if bias else None,
        "column_weight": torch.randn(n, generator=generator) if weight else None,
        "softcap": softcap,
    }


def upstream_of(m: int, factor: float = 1.0) -> list[Tensor]:
    """Of lse, target logit and weighted sum."""
    ends = ((-0.5, 1.5), (1.0, -2.0), (-0.1, 0.2))
    return [factor * torch.linspace(*each, m) for each in ends]


def exact_terms(arguments: dict[str, Any]) -> tuple[dict[str, Tensor], tuple[Tensor, ...]]:
    """The inputs, which want gradients, and the definition's terms."""
    given = {
        name: torch.as_tensor(arguments[name]).double().requires_grad_()
        for name in ("q", "k", "scale", "bias")
        if arguments[name] is not None
    }
    weight = arguments["column_weight"]
    terms = reference.logit_terms(
        given["q"],
        given["k"],
        arguments["target"],
        given["scale"],
        given.get("bias"),
        None if weight is None else weight.double(),
        arguments["softcap"],
    )
    return given, terms


def assert_right(
    arguments: dict[str, Any],
    schedule: str = "forward",
    grad_scale: float = 1.0,
    with_dk: bool = True,
    shift: int = 0,
) -> list[Any]:
    """Terms and gradients are those of the definition; returns what was counted."""
    exact, expected = exact_terms(arguments)
    *differentiable, largest = expected
    grads = upstream_of(len(arguments["q"]), grad_scale)
    pairs = zip(differentiable, grads, strict=True)
    total = torch.stack([(x * g.double()).sum() for x, g in pairs]).sum()
    wanted = dict(zip(exact, torch.autograd.grad(total, list(exact.values())), strict=True))
    weight = arguments["column_weight"]
    with torch.no_grad():
        term_bounds, bounds = rounding.logit_terms(
            arguments["q"].dtype,
            torch.stack(grads).double(),
            exact["q"],
            exact["k"],
            arguments["target"],
            exact["scale"],
            exact.get("bias"),
            None if weight is None else weight.double(),
            arguments["softcap"],
        )

    call = TermsCall(**arguments, shift=shift)
    terms, forward = call.forward(library(), schedule=schedule)
    # The maximum is a logit, like the target's.
    for found, want, bound in zip(terms, expected, [*term_bounds, term_bounds[1]], strict=True):
        assert_within(found, want.detach(), bound)
    assert torch.equal(terms[3] == 0, largest == 0)
    found, backward = call.backward(library(), grads, terms[0], with_dk, schedule=schedule)
    assert found.keys() == wanted.keys() - (set() if with_dk else {"k"})
    for name, gradient in found.items():
        assert_within(gradient, wanted[name].reshape(gradient.shape), bounds[name])
    uncounted = arguments["target"] < 0
    assert not any(x[uncounted].any() for x in (*terms, found["q"]))
    return forward + backward


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_in_any_order(dtype, schedule):
    assert_right(made(140, 330, 72, dtype=dtype), schedule)


@pytest.mark.parametrize(
    ("m", "n", "d"),
    [(1, 1, 1), (3, 65, 5), (129, 2, 16), (2, 300, 130), (300, 3, 200), (5, 70, 300), (3, 4, 1024)],
)
def test_ragged_sizes(m, n, d):
    """Chunks of features that stay or stream, and slices of them; columns for several blocks."""
    assert_right(made(m, n, d, counted=0.8))


@pytest.mark.parametrize("counted", [0.0, 0.01, 0.3, 1.0])
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_that_do_not_count(dtype, counted):
    """Whole blocks, some rows of them, and all rows: the device alone knows how many."""
    assert_right(made(300, 130, 16, dtype=dtype, counted=counted))


def test_more_rows_than_are_numbered_at_once():
    assert_right(made(2100, 70, 8, counted=0.2))


@pytest.mark.parametrize("softcap", [0.1, 1.5, 3e4])
@pytest.mark.parametrize("dtype", DTYPES)
def test_capped(dtype, softcap):
    assert_right(made(70, 130, 24, dtype=dtype, softcap=softcap))


@pytest.mark.parametrize("options", [{"bias": False}, {"weight": False}], ids=str)
def test_what_may_be_left_out(options):
    assert_right(made(70, 130, 24, **options))


@pytest.mark.parametrize("dtype", DTYPES)
def test_without_the_gradient_of_the_keys(dtype):
    assert_right(made(70, 130, 24, dtype=dtype), with_dk=False)


@pytest.mark.parametrize("scale", [-3.0, 0.0, 300.0])
def test_scales(scale):
    assert_right(made(150, 160, 16, scale=scale))


def with_a_bias_far_above_its_logit() -> dict[str, Any]:
    """Of the last key, whose place those beyond the end take."""
    arguments = made(70, 70, 16, scale=400.0)
    arguments["q"][:] = arguments["q"][0] / arguments["q"][0].norm()
    arguments["k"][-1], arguments["bias"][-1] = -arguments["q"][0], 400.0
    return arguments


def test_a_bias_far_above_its_logit():
    assert_right(with_a_bias_far_above_its_logit())


@pytest.mark.parametrize("grad_scale", [1e-7, 1e4])
def test_float16_gradients_of_any_size(grad_scale):
    """Upstream gradients below float16's range, before a loss scaler's factor, and far above 1."""
    assert_right(made(70, 80, 16, dtype=torch.float16), grad_scale=grad_scale)


def test_rows_that_begin_anywhere():
    assert_right(made(40, 70, 24), shift=1)


@pytest.mark.parametrize("dtype", DTYPES)
def test_no_rows(dtype):
    call = TermsCall(**made(0, 70, 8, dtype=dtype))
    terms, _ = call.forward(library())
    assert all(x.shape == (0,) for x in terms)
    found, _ = call.backward(library(), upstream_of(0), terms[0])
    assert all(not x.any() for x in found.values())


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_propagates(value):
    arguments = made(200, 210, 8, counted=1.0)
    arguments["q"][5, 0] = value
    terms, _ = TermsCall(**arguments).forward(library())
    for found, want in zip(terms, exact_terms(arguments)[1], strict=True):
        torch.testing.assert_close(
            found.double(), want.detach(), rtol=1e-2, atol=1e-2, equal_nan=True
        )


@pytest.mark.parametrize("target", [-2, 70, 2**40])
def test_a_target_out_of_range_ends_the_kernel(target):
    arguments = made(40, 70, 8)
    arguments["target"][17] = target
    with pytest.raises(Fault, match="Assertion: a target is out of range"):
        TermsCall(**arguments).forward(library())


@pytest.mark.parametrize("what", [{"softcap": -1.0}, {"d": 1025}, {"d": 0}, {"k": None}])
def test_what_the_kernels_do_not_take_is_an_error(what):
    call = TermsCall(**made(3, 4, 8))
    for name, value in what.items():
        setattr(call.struct if name == "softcap" else call.struct.logits, name, value)
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.forward(library())
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.backward(library(), upstream_of(3), torch.ones(3))


def test_banks_do_not_conflict():
    counts = assert_right(made(200, 200, 160))
    shared = [x for x in counts if x.shared]
    assert sum(x.moved for x in shared) <= 1.05 * sum(x.fewest for x in shared)
