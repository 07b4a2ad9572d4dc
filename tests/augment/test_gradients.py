"""The gradient of every stage alone, where it is smooth; and of affine stages, the second."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

import sslkernels
from sslkernels import AugmentPolicy, augment, policies
from sslkernels.augment.layout import AFFINE

pytest.importorskip("torchvision")

from tests.augment.test_against_torchvision import STAGES, images_of

SEED = 5


def policy_of(stage: str) -> AugmentPolicy:
    options = {"crop_scale": (0.5, 1.0)} | STAGES[stage]
    return AugmentPolicy((7, 9), **options)


def smooth_images(dtype: torch.dtype = torch.float64) -> torch.Tensor:
    """Away from the bounds of clamps for most of what is drawn."""
    return (0.2 + 0.6 * images_of((8, 6), torch.float64, batch=2)).to(dtype)


@pytest.mark.parametrize("stage", STAGES)
class TestStages:
    op = "augment"

    def test_gradcheck(self, implementation, stage):
        images = smooth_images().requires_grad_()
        function = lambda x: augment(x, policy_of(stage), views=3, seed=SEED)  # noqa: E731
        assert torch.autograd.gradcheck(function, images, fast_mode=True)

    @pytest.mark.parametrize("channels", [1, 3])
    def test_float32_follows_float64(self, implementation, stage, channels):
        policy = policy_of(stage)
        if channels == 1 and policy.mean:
            policy = replace(policy, mean=(0.3,), std=(0.2,))
        exact = smooth_images()[:, :channels].contiguous().requires_grad_()
        images = exact.detach().float().requires_grad_()
        views = augment(images, policy, views=3, seed=SEED)
        upstream = torch.rand(views.shape, generator=torch.Generator().manual_seed(1))
        (gradient,) = torch.autograd.grad(views, images, upstream)
        with sslkernels.backend("reference"):
            views = augment(exact, policy, views=3, seed=SEED)
        (expected,) = torch.autograd.grad(views, exact, upstream.double())
        scale = expected.abs().max()
        torch.testing.assert_close(gradient.double(), expected, rtol=0, atol=2e-5 * scale)

    def test_second_derivative(self, fused, stage):
        policy = policy_of(stage)
        images = smooth_images().requires_grad_()
        function = lambda x: augment(x, policy, seed=SEED)  # noqa: E731
        if policy.stages & ~AFFINE:
            (first,) = torch.autograd.grad(function(images).sum(), images, create_graph=True)
            with pytest.raises(RuntimeError, match=r"augment: .*no second derivative"):
                first.sum().backward()
        else:
            assert torch.autograd.gradgradcheck(function, images, fast_mode=True)


class TestUses:
    op = "augment"

    def test_gradient_penalty_through_diffaugment(self, implementation):
        """What a GAN's discriminator is regularised with: a gradient of a gradient's norm."""
        images = (2 * smooth_images() - 1).requires_grad_()
        weight = torch.rand(3, 8, 8, dtype=torch.float64).requires_grad_()

        def penalty() -> torch.Tensor:
            views = augment(images, policies.diffaugment(8), views=1, seed=1)
            logits = (views * weight).square().sum()
            return torch.autograd.grad(logits, images, create_graph=True)[0].square().sum()

        found = torch.autograd.grad(penalty(), (images, weight))
        with sslkernels.backend("reference"):
            expected = torch.autograd.grad(penalty(), (images, weight))
        torch.testing.assert_close(found, expected)

    @pytest.mark.parametrize("out_dtype", [torch.bfloat16, torch.float16])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
    def test_half_precision(self, implementation, dtype, out_dtype):
        policy = replace(policy_of("jitter"), dtype=out_dtype)
        images = smooth_images(dtype).requires_grad_()
        views = augment(images, policy, seed=SEED)
        assert views.dtype is out_dtype
        views.float().sum().backward()
        assert images.grad.dtype is dtype
        exact = images.detach().float().requires_grad_()
        augment(exact, policy_of("jitter"), seed=SEED).sum().backward()
        error = (images.grad.float() - exact.grad).abs().max()
        assert error <= exact.grad.abs().max() * 2 * torch.finfo(dtype).eps

    def test_a_crop_has_no_gradient_outside(self, implementation):
        images = smooth_images().requires_grad_()
        policy = AugmentPolicy(5, crop_scale=(0.2, 0.3))
        views, draws = augment(images, policy, views=1, seed=2, return_draws=True)
        views.sum().backward()
        for image, (top, left, height, width) in zip(
            images.grad, draws[0, :, :4].int().tolist(), strict=True
        ):
            inside = torch.zeros(8, 6, dtype=torch.bool)
            inside[top : top + height, left : left + width] = True
            assert (image[:, ~inside] == 0).all() and (image[:, inside] > 0).all()

    def test_bytes_have_no_gradient(self, implementation):
        images = images_of((8, 6), torch.uint8)
        assert not augment(images, policies.simclr_cifar(8), seed=0).requires_grad
