"""nt_xent beside float64 where digits are easily lost: trained encoders, and long sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import sslkernels
from sslkernels.losses import nt_xent as nt_xent_module

TEMPERATURE = 0.1


def views(samples: int, noise: float, dtype: torch.dtype) -> list[Tensor]:
    """The second view is the first one and noise, as after a trained encoder."""
    generator = torch.Generator().manual_seed(0)
    first, other = torch.randn(2, samples, 128, generator=generator)
    return [first.to(dtype), (first + noise * other).to(dtype)]


def results(loss, tensors: list[Tensor], **settings) -> list[Tensor]:
    """The loss and its gradients."""
    leaves = [x.detach().requires_grad_() for x in tensors]
    value = loss(*leaves, TEMPERATURE, **settings)
    return [value.detach(), *torch.autograd.grad(value.sum(), leaves)]


def errors(actual: list[Tensor], tensors: list[Tensor], **settings) -> list[float]:
    """Relative to float64."""
    exact = results(nt_xent_module.reference, [x.double() for x in tensors], **settings)
    return [float((a - e).norm() / e.norm()) for a, e in zip(actual, exact, strict=True)]


class TestTrained:
    """The gradient hangs on what is left of the softmax beside the positive."""

    op = "nt_xent"

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_float32(self, implementation, reduction):
        tensors, settings = views(64, 0.1, torch.float32), {"reduction": reduction}
        actual = results(sslkernels.nt_xent, tensors, **settings)
        assert max(errors(actual, tensors, **settings)) < 2e-6

    def test_bfloat16_as_composed_for_gpus(self):
        """Rows rounded to the inputs' dtype, and gradients too, before they are added."""
        tensors = views(64, 0.1, torch.bfloat16)

        def composed(z1, z2, temperature):
            scale = torch.tensor(1 / temperature)
            return nt_xent_module._composed(z1, z2, scale, True, False, "mean", True)

        with sslkernels.backend("chunked"):
            ours = errors(results(composed, tensors), tensors)
        eager = errors(results(nt_xent_module.reference, tensors), tensors)
        assert all(a < 0.5 * e for a, e in zip(ours, eager, strict=True)), (ours, eager)


def test_a_gradient_of_many_rows():
    """Sums over the batch round in the size of their parts, not of what they have grown to."""
    tensors = views(1024, 10.0, torch.float32)
    ours = errors(results(sslkernels.nt_xent, tensors), tensors)
    eager = errors(results(nt_xent_module.reference, tensors), tensors)
    assert all(a < 2 * max(e, 1e-7) for a, e in zip(ours, eager, strict=True)), (ours, eager)
