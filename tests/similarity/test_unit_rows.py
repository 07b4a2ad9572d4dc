"""`unit_rows` against torch's own normalisation in float64."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

import sslkernels
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.similarity.unit_rows import unit_rows

BACKENDS = ["cpu", "chunked", "reference"]


@pytest.fixture(params=BACKENDS)
def implementation(request):
    if request.param == "cpu" and sslkernels.backends.why_not("unit_rows", "cpu", torch.empty(0)):
        pytest.skip("no C++ kernels here")
    with sslkernels.backend(request.param):
        yield request.param


def limit_of(dtype: torch.dtype) -> float:
    return 4 * torch.finfo(dtype).eps


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape", [(1, 1), (3, 17), (70, 128), (5, 513), (0, 4), (4, 3, 20)], ids=str
)
def test_values_and_gradients(implementation, shape, dtype):
    torch.manual_seed(0)
    x = (3 * torch.randn(shape)).to(dtype).requires_grad_()
    upstream = torch.randn(shape).to(dtype)
    exact = x.detach().double().requires_grad_()
    wanted = F.normalize(exact, dim=-1)
    found = unit_rows(x)
    assert found.shape == x.shape and found.dtype is dtype
    assert torch.allclose(found.double(), wanted, rtol=0, atol=limit_of(dtype))
    (gradient,) = torch.autograd.grad(found, x, upstream)
    (expected,) = torch.autograd.grad(wanted, exact, upstream.double())
    norm = exact.detach().norm(dim=-1, keepdim=True).clamp_min(1e-12)
    scale = upstream.double().norm(dim=-1, keepdim=True) / norm
    assert ((gradient.double() - expected).abs() <= limit_of(dtype) * scale).all()


def test_any_strides(implementation):
    x = torch.randn(20, 14).T[::2].requires_grad_()
    found = unit_rows(x)
    assert torch.allclose(found, F.normalize(x, dim=1), atol=1e-6)
    (gradient,) = torch.autograd.grad(found.sum(), x)
    (expected,) = torch.autograd.grad(F.normalize(x, dim=1).sum(), x)
    assert torch.allclose(gradient, expected, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rows_without_a_norm(implementation, dtype):
    """Zero, and below epsilon, where the norm is a constant."""
    x = torch.zeros(3, 5, dtype=dtype)
    x[1] = 1e-14
    x[2, 0] = 2.0
    x.requires_grad_()
    found = unit_rows(x)
    wanted = F.normalize(x, dim=1)
    assert torch.allclose(found, wanted, rtol=1e-6)
    upstream = torch.arange(15, dtype=dtype).reshape(3, 5)
    (gradient,) = torch.autograd.grad(found, x, upstream)
    (expected,) = torch.autograd.grad(wanted, x, upstream)
    assert torch.allclose(gradient, expected, rtol=1e-6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows_in_its_row_alone(implementation, bad):
    x = torch.ones(3, 40)
    x[1, 7] = bad
    found = unit_rows(x)
    assert found[1].isnan().any()
    assert found[[0, 2]].isfinite().all()


def test_gradcheck_and_second_derivative(implementation):
    x = torch.randn(4, 6, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(unit_rows, (x,))
    (gradient,) = torch.autograd.grad(
        unit_rows(x).square().sum() + unit_rows(x).sum(), x, create_graph=True
    )
    if implementation == "cpu":
        with pytest.raises(RuntimeError, match="no second derivative"):
            gradient.sum().backward()
    else:
        gradient.sum().backward()


def test_compile_and_vmap(implementation):
    x = torch.randn(3, 8, 5)
    torch._dynamo.reset()
    compiled = torch.compile(unit_rows, fullgraph=True, backend="aot_eager")
    assert torch.equal(compiled(x[0]), unit_rows(x[0]))
    assert torch.allclose(torch.func.vmap(unit_rows)(x), unit_rows(x))
    total = torch.func.grad(lambda y: (unit_rows(y) * x[1]).sum())
    y = x[0].clone().requires_grad_()
    (unit_rows(y) * x[1]).sum().backward()
    assert torch.allclose(total(x[0]), y.grad, atol=1e-6)


def test_same_bits_for_any_number_of_threads():
    x, results, before = torch.randn(999, 300), [], torch.get_num_threads()
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            y = x.clone().requires_grad_()
            z = unit_rows(y)
            z.backward(x.roll(1, 0))
            results.append((z, y.grad))
    finally:
        torch.set_num_threads(before)
    for z, gradient in results[1:]:
        assert torch.equal(z, results[0][0]) and torch.equal(gradient, results[0][1])
