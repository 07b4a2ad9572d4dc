"""The CUDA kernels of the engine against float64, whatever order threads take."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels.similarity import reference
from tests import rounding
from tests.emulation.cuda import build, similarity
from tests.emulation.cuda.run import SCHEDULES, Library

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

DTYPES = (torch.bfloat16, torch.float16)


@functools.cache
def library() -> Library:
    return Library(*similarity.SOURCES)


def made(
    m: int,
    n: int | None,
    d: int,
    *,
    dtype: torch.dtype = torch.bfloat16,
    scale: float = 2.0,
    exclude: tuple[int, ...] = (),
    bias: bool = False,
) -> dict[str, Any]:
    """Arguments of `logsumexp`, with rows about as long as unit vectors; without n: no k."""
    generator = torch.Generator().manual_seed(1000 * m + d)

    def drawn(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator)

    return {
        "q": (drawn(m, d) * d**-0.5).to(dtype),
        "k": None if n is None else (drawn(n, d) * d**-0.5).to(dtype),
        "scale": scale,
        "bias": drawn(m if n is None else n) if bias else None,
        "exclude": exclude,
    }


def assert_right(
    arguments: dict[str, Any], schedule: str = "forward", grad_scale: float = 1.0, shift: int = 0
) -> list[Any]:
    """Value and gradients are those of the definition; returns what was counted."""
    q, k, bias = arguments["q"], arguments["k"], arguments["bias"]
    leaves = {"q": q, "k": k, "bias": bias, "scale": torch.tensor([arguments["scale"]])}
    exact = {name: x.double().requires_grad_() for name, x in leaves.items() if x is not None}
    inputs = (exact["q"], exact.get("k"))
    options = {"scale": exact["scale"], "bias": exact.get("bias")}
    expected = reference.logsumexp(*inputs, **options, exclude=arguments["exclude"])
    grad = grad_scale * torch.linspace(-0.5, 1.5, len(q))
    gradients = torch.autograd.grad(expected, list(exact.values()), grad.double())
    with torch.no_grad():
        lse_bound, bounds = rounding.engine(
            q.dtype,
            grad.double(),
            *inputs,
            exact["scale"],
            exact.get("bias"),
            arguments["exclude"],
        )

    call = similarity.Call(**arguments, shift=shift)
    lse, forward = call.forward(library(), schedule=schedule)
    assert_within(lse, expected.detach(), lse_bound)
    found, backward = call.backward(library(), grad, lse, schedule=schedule)
    assert found.keys() == exact.keys()
    for name, want in zip(exact, gradients, strict=True):
        assert_within(found[name], want, bounds[name])
    return forward + backward


def assert_within(found: Tensor, expected: Tensor, bound: Tensor) -> None:
    error = (found.double() - expected).abs()
    assert bool((error <= bound).all()), f"{float((error / bound).max())} of the bound"


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_against_columns(dtype, schedule):
    assert_right(made(70, 130, 72, dtype=dtype), schedule)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_rows_against_themselves(dtype, schedule):
    assert_right(made(200, None, 24, dtype=dtype, exclude=(0,)), schedule)


@pytest.mark.parametrize(
    ("m", "n", "d"),
    [(1, 1, 1), (3, 65, 5), (129, 2, 16), (2, 300, 130), (65, 3, 200), (5, 70, 300), (3, 4, 1024)],
)
def test_ragged_sizes(m, n, d):
    """Chunks of features that stay or stream, and slices of them; columns for several blocks."""
    assert_right(made(m, n, d, bias=True))


@pytest.mark.parametrize(("m", "d"), [(1, 8), (63, 16), (129, 3), (300, 40)])
def test_ragged_sizes_against_themselves(m, d):
    assert_right(made(m, None, d))


@pytest.mark.parametrize(
    "options",
    [
        {"exclude": (0,)},
        {"exclude": (0, -150)},
        {"exclude": (3, 7, 100), "n": 131},
        {"exclude": (1,)},
        {"exclude": (5, -5), "bias": True},
        {"exclude": (2,), "n": 9, "bias": True},
        {"scale": -3.0},
        {"scale": 0.0},
    ],
    ids=str,
)
def test_options(options):
    options = {"n": None, **options}
    assert_right(made(150, options.pop("n"), 16, **options))


@pytest.mark.parametrize("n", [None, 90])
def test_logits_far_apart(n):
    """Probabilities that underflow, and rows far below the rest of their tile."""
    arguments = made(200, n, 16, scale=300.0, exclude=(0,))
    arguments["q"][::3] *= 0.1
    arguments["q"][1::5] *= 5
    assert_right(arguments)


@pytest.mark.parametrize("grad_scale", [1e-7, 1e4])
def test_float16_gradients_of_any_size(grad_scale):
    """Upstream gradients below float16's range, before a loss scaler's factor, and far above 1."""
    arguments = made(70, 80, 16, dtype=torch.float16)
    assert_right(arguments, grad_scale=grad_scale)


def test_rows_that_begin_anywhere():
    assert_right(made(40, 70, 24), shift=1)


@pytest.mark.parametrize("with_bias", [False, True])
def test_without_the_gradient_of_the_keys(with_bias):
    arguments = made(30, 70, 16, bias=with_bias)
    call = similarity.Call(**arguments)
    lse, _ = call.forward(library())
    grad = torch.ones(30)
    every, _ = call.backward(library(), grad, lse)
    fewer, _ = call.backward(library(), grad, lse, with_dk=False)
    assert every.keys() - fewer.keys() == {"k"}
    for name, gradient in fewer.items():
        assert torch.equal(gradient, every[name])


def test_row_without_columns():
    arguments = made(3, 1, 8, exclude=(0,))
    call = similarity.Call(**arguments)
    lse, _ = call.forward(library())
    assert torch.equal(lse, torch.full((3,), float("-inf")))
    found, _ = call.backward(library(), torch.ones(3), lse)
    assert all(not gradient.any() for gradient in found.values())


def test_no_rows():
    call = similarity.Call(**made(0, 70, 8, bias=True))
    lse, counts = call.forward(library())
    assert lse.shape == (0,) and counts == []
    found, _ = call.backward(library(), torch.ones(0), lse)
    assert all(not gradient.any() for gradient in found.values())
    call = similarity.Call(**made(0, None, 8, exclude=(0,)))
    assert call.forward(library())[0].shape == (0,)
    assert call.backward(library(), torch.ones(0), lse)[0]["scale"] == 0.0


@pytest.mark.parametrize("n", [None, 70])
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_propagates(n, value):
    arguments = made(200, n, 8, exclude=(0,))
    arguments["q"][5, 0] = value
    lse, _ = similarity.Call(**arguments).forward(library())
    expected = reference.logsumexp(
        arguments["q"].double(),
        None if n is None else arguments["k"].double(),
        scale=arguments["scale"],
        exclude=(0,),
    )
    torch.testing.assert_close(lse.double(), expected, rtol=1e-2, atol=1e-2, equal_nan=True)


@pytest.mark.parametrize("what", [{"d": 1025}, {"excluded": 9}, {"n": 2**31}, {"d": 0}])
def test_what_the_kernels_do_not_take_is_an_error(what):
    call = similarity.Call(**made(3, 4, 8))
    for name, value in what.items():
        setattr(call.struct, name, value)
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.forward(library())


@pytest.mark.parametrize("n", [None, 200])
def test_banks_do_not_conflict(n):
    """Of shared memory at most 1.05 wavefronts move for each that has to."""
    counts = assert_right(made(200, n, 160))
    shared = [x for x in counts if x.shared]
    assert any(x.writes for x in shared) and any(not x.writes for x in shared)
    assert sum(x.moved for x in shared) <= 1.05 * sum(x.fewest for x in shared)
    matrices = [x for x in shared if x.file == "warp_matrix.h"]
    assert matrices and all(x.moved == x.fewest for x in matrices)
