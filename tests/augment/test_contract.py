"""The contract of a differentiable operator, held by augmentation."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

import sslkernels
from sslkernels import AugmentPolicy, augment
from sslkernels.augment.draws import draw
from sslkernels.augment.layout import AFFINE
from sslkernels.augment.op import _outputs
from tests.contract import OpContract

EPS = torch.finfo(torch.float32).eps
SIZE = (9, 13)
EVERYTHING = AugmentPolicy(
    SIZE,
    crop_scale=(0.6, 1.0),  # most of the image: many pixels have a gradient
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=30,
    brightness=0.3,
    contrast=0.3,
    saturation=0.3,
    hue=0.1,
    grayscale=0.2,
    blur_probability=0.5,
    noise_probability=0.5,
    noise_std=0.02,
    translation=0.1,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
    erase_probability=0.5,
    erase_value=0.5,
    channels_last=True,
)
GEOMETRY = AugmentPolicy(
    SIZE,
    crop_scale=(0.6, 1.0),
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=40,
    blur_probability=0.8,
    blur_kernel=5,
)


class TestAugment(OpContract):
    op = "augment"
    variants: ClassVar = {
        "geometry": {"policy": GEOMETRY},
        "everything": {"policy": EVERYTHING},
    }

    def make(self, dtype, variant, seed=0):
        generator = torch.Generator().manual_seed(seed)
        images = torch.rand(2, 3, 11, 8, generator=generator, dtype=torch.float64)
        # Away from 0, 1 and each other by more than rounding: no stage has a kink there.
        return {"images": (0.05 + 0.9 * images).to(dtype)}

    def call(self, tensors, variant):
        return augment(tensors["images"], variant["policy"], seed=5)

    def reference(self, tensors, variant):
        with sslkernels.backend("reference"):
            return self.call(tensors, variant)

    def tolerances(self, dtype, tensors, variant, upstream):
        """A few roundings of what is summed; tables of weights are float32 throughout."""
        policy = variant["policy"]
        unit = 1e-13 if dtype is torch.float64 else 64 * EPS
        scale = 1.0 if policy.std is None else 1 / min(policy.std)
        # What a gradient sums, over the pixels and channels of a view, bounds its roundings.
        total = upstream.abs().sum((0, 2, 3, 4)).max() * scale
        rounded = torch.finfo(dtype).eps if dtype.itemsize == 2 else 0.0
        images = tensors["images"]
        gradient = (unit * total + rounded * total).expand_as(images)
        return torch.tensor(unit * scale), {"images": gradient}

    def operators(self, namespace):
        images = self.make(torch.float32, {})["images"]
        policy = EVERYTHING
        ids = torch.arange(2)
        draws = draw(ids, policy.numbers * 2, 1, 0, 11, 8)
        settings = list(_outputs([policy], images)[0].settings)
        settings[0], settings[2], settings[3] = (list(settings[i]) for i in (0, 2, 3))
        views = torch.rand(2, 2, 3, *SIZE)
        return [
            (namespace.augment_draws.default, (ids, list(policy.numbers) * 2, 1, 0, 11, 8)),
            (namespace.augment_forward.default, (images, draws, *settings, torch.float32, False)),
            (namespace.augment_forward.default, (images, draws, *settings, torch.bfloat16, True)),
            (namespace.augment_forward_out.default, (images, draws, *settings, views)),
            (namespace.augment_backward.default, (views, images, draws, *settings)),
        ]

    def test_second_derivative_is_a_clear_error(self, fused, variant):
        """Where a stage is not affine; else there is one."""
        if variant["policy"].stages & ~AFFINE:
            super().test_second_derivative_is_a_clear_error(fused, variant)
            return
        images = self.make(torch.float64, variant)["images"].requires_grad_()
        function = lambda x: self.call({"images": x}, variant)  # noqa: E731
        assert torch.autograd.gradgradcheck(function, images, fast_mode=True)

    def test_compile_fullgraph(self, fused, variant):
        super().test_compile_fullgraph(fused, variant)

    @pytest.mark.slow
    def test_compile_fullgraph_of_the_reference(self, variant):
        """Dynamo goes through every stage of every image by itself."""
        with sslkernels.backend("reference"):
            super().test_compile_fullgraph("reference", variant)

    @pytest.mark.parametrize("bad", [float("nan"), float("inf")])
    def test_what_is_not_finite_shows(self, implementation, variant, bad):
        """In both views of the image that has it, unless cut away, and in no other image."""
        images = self.make(torch.float32, variant)["images"]
        images[1, :, 3:8, 2:6] = bad
        views = self.call({"images": images}, variant)
        if bad != bad:  # a clamp makes a number of infinity
            assert views[:, 1].isnan().flatten(1).any(1).all()
        assert views[:, 0].isfinite().all()
