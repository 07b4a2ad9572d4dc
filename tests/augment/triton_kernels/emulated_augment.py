"""The kernels of augmentation as compiled for sm_80, run in the emulator of PTX."""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels import AugmentPolicy, augment, backends
from sslkernels.augment.draws import draw
from tests.emulation.ptx.launches import emulated
from tests.emulation.shipped_inputs import EVERY_STAGE

SIZE = (9, 30)
POLICIES = {
    "no memory between launches": AugmentPolicy(SIZE, crop_scale=(0.3, 1.0), horizontal_flip=0.5),
    "no means": AugmentPolicy(SIZE, rotation=30.0, blur_probability=1.0),
    "contrast and blur": AugmentPolicy(SIZE, contrast=0.4, blur_probability=1.0),
    "every stage": AugmentPolicy.from_dict(EVERY_STAGE.to_dict() | {"size": list(SIZE)}),
}


@pytest.mark.parametrize("policy", POLICIES.values(), ids=POLICIES)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32], ids=str)
def test_draws_views_and_gradient(policy, dtype, monkeypatch):
    monkeypatch.setattr(backends, "_interpreting", lambda: True)
    generator = torch.Generator().manual_seed(0)
    images = 0.05 + 0.9 * torch.rand(2, 3, 14, 11, generator=generator)
    if dtype is torch.uint8:
        images = (255 * images).to(dtype)
    exact = (images.double() / (255 if dtype is torch.uint8 else 1)).requires_grad_()
    leaf = images.requires_grad_(dtype is not torch.uint8)
    with emulated() as found, sslkernels.backend("triton"):
        views, rows = augment(leaf, policy, seed=3, return_draws=True)
        upstream = torch.randn(views.shape, generator=generator)
        if leaf.requires_grad:
            (gradient,) = torch.autograd.grad(views, leaf, upstream)
    assert {launched.kernel for launched in found} >= {"_draws_kernel", "_segment_kernel"}
    assert torch.equal(rows, draw(torch.arange(2), list(policy.numbers) * 2, 3, 0, 14, 11))
    with sslkernels.backend("reference"):
        wanted = augment(exact, policy, draws=rows)
    scale = 1.0 if policy.std is None else 1 / min(policy.std)
    bound = (1e-4 if policy.jitters("hue") else 1e-5) * scale
    torch.testing.assert_close(views.double(), wanted, rtol=0.0, atol=bound)
    if leaf.requires_grad:
        (expected,) = torch.autograd.grad(wanted, exact, upstream.double())
        largest = float(expected.abs().max())
        torch.testing.assert_close(gradient.double(), expected, rtol=0.0, atol=2e-5 * largest)
