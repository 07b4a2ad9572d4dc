"""DCLW, nt_xent(decoupled=True, sigma=...): under the contract, and against lightly."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from sslkernels import nn, nt_xent
from tests import rounding
from tests.losses.contrastive import unit
from tests.losses.test_nt_xent_contract import TestNTXent as NTXentContract


class TestDCLW(NTXentContract):
    variants: ClassVar = {
        "mean": {"reduction": "mean", "normalize": True, "decoupled": True, "sigma": 0.5},
        "sum": {"reduction": "sum", "normalize": False, "decoupled": True, "sigma": 0.7},
        "none": {"reduction": "none", "normalize": True, "decoupled": True, "sigma": 0.3},
    }

    def tolerances(self, dtype, tensors, variant, upstream):
        """Those of DCL, which has the positive with weight 1, more for a larger weight."""
        options = {name: x for name, x in variant.items() if name != "sigma"}
        value, gradients = super().tolerances(dtype, tensors, options, upstream)
        z1, z2 = (unit(tensors[name], variant["normalize"])[0] for name in ("z1", "z2"))
        share = ((z1 * z2).sum(1) / variant["sigma"]).softmax(0) * len(z1)
        largest = float(share.max())  # of abs(1 - w) = abs(share - 1), or near enough
        # The weight is not differentiated; its own error is that of an exponential.
        unsure = rounding.sum_error(dtype, z1.shape[1], len(z1)) * (1 + 1 / variant["sigma"])
        more = 2 + largest * (1 + unsure)
        return value * more, {name: more * x for name, x in gradients.items()}

    def operators(self, namespace):
        return []  # those of nt_xent

    def test_gradcheck(self, implementation, variant):
        pytest.skip("the weight is a constant for the gradient, and no constant for differences")

    def test_second_derivative_of_the_reference(self, variant):
        pytest.skip("as test_gradcheck")


@pytest.mark.parametrize("sigma", [0.5, 1.5])
def test_lightly_agrees(sigma):
    """Its aggregation is the paper's: one sum over the negatives of both views."""
    loss = pytest.importorskip("lightly.loss.dcl_loss")
    z1, z2 = torch.randn(2, 12, 17, generator=torch.Generator().manual_seed(0)).unbind()
    z2 = (z1 + z2).requires_grad_()
    expected = loss.DCLLoss(0.2)(z1, z2)
    assert torch.allclose(nt_xent(z1, z2, 0.2, decoupled=True), expected)
    with pytest.warns(UserWarning, match="copy construct"):
        expected = loss.DCLWLoss(0.2, sigma=sigma)(z1, z2)
    actual = nt_xent(z1, z2, 0.2, decoupled=True, sigma=sigma)
    assert torch.allclose(actual, expected)
    (left,), (right,) = (torch.autograd.grad(x, z2) for x in (actual, expected))
    assert torch.allclose(left, right, atol=1e-6)
    assert torch.equal(nn.NTXentLoss(0.2, decoupled=True, sigma=sigma)(z1, z2), actual)


def test_weights_average_to_one():
    """So that the positives pull as much in all as those of DCL where all are alike."""
    z = torch.randn(6, 5, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(
        nt_xent(z, z, decoupled=True, sigma=0.5), nt_xent(z, z, decoupled=True), rtol=1e-6
    )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"sigma": 0.5}, ValueError, "sigma goes with decoupled=True"),
        ({"sigma": 0.0, "decoupled": True}, ValueError, "sigma must be positive and finite"),
        ({"sigma": "a", "decoupled": True}, TypeError, "sigma must be a float"),
        ({"sigma": 0.5, "decoupled": True, "group": 1}, ValueError, "sigma must be None with gr"),
    ],
)
def test_bad_sigma(options, error, message):
    with pytest.raises(error, match=f"^nt_xent: {message}"):
        nt_xent(torch.ones(4, 3), torch.ones(4, 3), **options)
