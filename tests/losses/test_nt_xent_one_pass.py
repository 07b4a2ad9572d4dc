"""nt_xent where the forward computes the gradients too."""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels.checks import accumulate_dtype
from tests.contract import assert_same_bits
from tests.losses.test_nt_xent import CONTRACT, PLAIN, views


@pytest.mark.parametrize("rows", [1, 33, 300, 521])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_one_pass_is_forward_then_backward(rows, dtype):
    """Where the gradient of the loss is formed together with it, and where it is not."""
    if CONTRACT.op_missing():
        pytest.skip(CONTRACT.op_missing().splitlines()[0])
    operators = torch.ops.sslkernels
    z1, z2 = views(rows, 48, dtype)
    scale = torch.tensor(10.0, dtype=accumulate_dtype(dtype))
    for normalize, decoupled, reduction, temperature_scale in [
        (True, False, "mean", 1.0),
        (True, rows > 1, "sum", 1.0),
        (False, False, "mean", 0.01),
        (True, False, "mean", 10.0),  # beyond the range of the shared exponential
    ]:
        inputs = (z1, z2, temperature_scale * scale)
        settings = (normalize, decoupled, reduction, 0)
        loss, *saved = operators.nt_xent_forward(*inputs, *settings)
        gradients = operators.nt_xent_backward(torch.ones_like(loss), *saved, *inputs, *settings)
        together = operators.nt_xent_forward_backward(*inputs, *settings)
        # bfloat16 weights of either path are rounded on their own.
        for actual, expected in zip(together, (loss, *gradients), strict=True):
            error = (actual.double() - expected.double()).norm()
            assert error <= 10 * torch.finfo(dtype).eps * (expected.double().norm() + 1e-6)


@pytest.mark.parametrize("upstream", [float("nan"), float("inf")])
def test_upstream_that_is_not_finite_shows(implementation, upstream):
    z1, z2 = (z.requires_grad_() for z in views(6, 5))
    temperature = torch.tensor(0.3, requires_grad=True)
    loss = sslkernels.nt_xent(z1, z2, temperature)
    inputs = (z1, z2, temperature)
    for gradient in torch.autograd.grad(loss, inputs, torch.tensor(upstream)):
        assert not gradient.isfinite().any()


@pytest.mark.parametrize("rows", [40, 256, 600])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_for_any_number_of_threads(rows, dtype):
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the BLAS's products depend on the number of threads")
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            tensors = CONTRACT.make(dtype, PLAIN, 3, rows, 64, 0.1)
            results.append(CONTRACT.run(tensors, PLAIN | {"reduction": "mean"}))
    finally:
        torch.set_num_threads(before)
    for result in results[1:]:
        assert_same_bits(result, results[0])


@pytest.mark.parametrize("leaf", [True, False], ids=["leaf", "inside a graph"])
def test_gradients_of_an_upstream_of_one_add_up(implementation, leaf):
    """They are the saved tensors themselves, which no sum in place may reach."""
    z = torch.randn(12, 5, generator=torch.Generator().manual_seed(0), requires_grad=True)
    z1, z2 = (half if not leaf else half.detach().requires_grad_() for half in z.chunk(2))
    inputs = (z1, z2) if leaf else (z,)
    loss = sslkernels.nt_xent(z1, z2)
    once = [x.clone() for x in torch.autograd.grad(loss, inputs, retain_graph=True)]
    for times in (1, 2, 3):
        loss.backward(retain_graph=True)
        for x, expected in zip(inputs, once, strict=True):
            torch.testing.assert_close(x.grad, times * expected)
    for x in inputs:
        x.grad.zero_()
    for actual, expected in zip(torch.autograd.grad(loss, inputs), once, strict=True):
        assert torch.equal(actual, expected)


def test_a_hook_that_overwrites_the_gradient_stops_a_second_backward():
    if CONTRACT.op_missing():
        pytest.skip(CONTRACT.op_missing().splitlines()[0])
    z1, z2 = (z.requires_grad_() for z in views(6, 5))
    z1.register_hook(lambda grad: grad.mul_(2))
    loss = sslkernels.nt_xent(z1, z2)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()
