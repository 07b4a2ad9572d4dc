"""supcon where one operator computes the loss together with its gradients."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sslkernels
from sslkernels.losses.supcon import reference
from tests.contract import assert_same_bits
from tests.losses.test_supcon_contract import TestSupCon as SupConContract

CONTRACT = SupConContract()
DTYPES = [torch.float64, torch.float32, torch.bfloat16]


@pytest.fixture(autouse=True)
def _needs_the_kernel() -> None:
    if CONTRACT.op_missing():
        pytest.skip(CONTRACT.op_missing().splitlines()[0])


def drawn(rows: int, features: int, dtype: torch.dtype, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(rows, features, generator=generator, dtype=torch.float64).to(dtype)


def results(function, z: Tensor, labels: Tensor, temperature: float, **options) -> list[Tensor]:
    """The loss and its gradients by rows and temperature."""
    wide = torch.float64 if z.dtype is torch.float64 else torch.float32
    leaves = [z.detach().requires_grad_(), torch.tensor(temperature, dtype=wide).requires_grad_()]
    loss = function(leaves[0], labels, leaves[1], **options)
    return [loss.detach(), *torch.autograd.grad(loss, leaves)]


# Alone; less than a tile; more than one stripe; whole tiles, of which the gradient is its own sum.
@pytest.mark.parametrize(
    ("rows", "features"), [(1, 5), (2, 3), (33, 17), (300, 48), (521, 130), (256, 128), (1344, 32)]
)
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_every_size(rows, features, dtype):
    z = drawn(rows, features, dtype)
    # Classes of all sizes, one of a single row among them.
    labels = torch.tensor([i * i % 11 for i in range(rows)])
    labels[0] = 2**62
    for normalize, reduction, temperature in [
        (True, "mean", 0.3),
        (False, "sum", 2.0 * features),
        (True, "mean", 0.005),  # beyond the range of the shared exponential
    ]:
        options = {"normalize": normalize, "reduction": reduction}
        wanted = results(reference, z.double(), labels, temperature, **options)
        found = results(sslkernels.supcon, z, labels, temperature, **options)
        longest = 1.0 if normalize else float(z.double().square().sum(1).max())
        relative = 8 * torch.finfo(dtype).eps * max(1.0, longest / temperature)
        for ours, want in zip(found, wanted, strict=True):
            assert (ours.double() - want).norm() <= relative * (want.norm() + 1e-6)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_no_row_with_a_positive(dtype):
    for ours in results(sslkernels.supcon, drawn(40, 8, dtype), torch.arange(40), 0.1):
        assert not ours.any()


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_what_is_not_finite_shows(bad):
    z = drawn(40, 8, torch.float32)
    z[7, 3] = bad
    loss, dz, _ = results(sslkernels.supcon, z, torch.arange(40) % 4, 0.1)
    assert loss.isnan() and dz.isnan().any()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_same_bits_for_any_number_of_threads(dtype):
    if torch.backends.cpu.get_cpu_capability() != "AVX512":
        pytest.skip("the BLAS's products depend on the number of threads")
    z, labels = drawn(600, 64, dtype), torch.arange(600) % 7
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3, 5):
            torch.set_num_threads(threads)
            found.append(dict(enumerate(results(sslkernels.supcon, z, labels, 0.1))))
    finally:
        torch.set_num_threads(before)
    for each in found[1:]:
        assert_same_bits(each, found[0])


def test_gradients_that_cancel_are_rounded_once():
    """Those of the softmax and of the class, where rows have come close to their class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(256) % 4
    z = torch.eye(4, 64)[labels] + 0.1 * torch.randn(256, 64, generator=generator)
    want = results(reference, z.bfloat16().double(), labels, 0.3)[1]
    errors = [
        (results(function, z.bfloat16(), labels, 0.3)[1].double() - want).norm()
        for function in (sslkernels.supcon, reference)
    ]
    assert errors[0] <= 0.4 * errors[1]


def test_a_second_backward_and_another_upstream():
    z = drawn(64, 32, torch.float32).requires_grad_()
    loss = sslkernels.supcon(z, torch.arange(64) % 3)
    (once,) = torch.autograd.grad(loss, z, retain_graph=True)
    first = once.clone()
    (thrice,) = torch.autograd.grad(loss, z, torch.tensor(3.0), retain_graph=True)
    torch.testing.assert_close(thrice, 3 * first)
    assert torch.equal(torch.autograd.grad(loss, z)[0], first)
