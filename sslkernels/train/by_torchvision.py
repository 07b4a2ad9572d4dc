"""The same policies through torchvision's transforms, one image at a time: for comparison."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sslkernels import AugmentPolicy
from sslkernels.augment.layout import Stage
from sslkernels.train.errors import require
from sslkernels.train.seeds import fold


def transform(policy: AugmentPolicy) -> Callable[[Tensor], Tensor]:
    """What makes a view [C, h, w] of an image [C, H, W], drawing from torch's own generator.

    Raises:
        TrainError: torchvision is not installed.
        ValueError: the policy has something for which no transform of torchvision draws alike.
    """
    v2 = require(
        "torchvision.transforms.v2",
        "torchvision",
        by="--augment torchvision",
        install="torchvision",
    )
    assert isinstance(policy.noise_std, tuple)  # the policy has made it one
    least_noise, most_noise = policy.noise_std
    lacking = {
        "diff_brightness, diff_saturation, diff_contrast": policy.stages & Stage.DIFF_COLOUR,
        "translation": policy.translation,
        "cutout": policy.cutout,
        "noise_std with a range": policy.stages & Stage.NOISE and least_noise != most_noise,
    }
    for name, wanted in lacking.items():
        if wanted:
            raise ValueError(f"torchvision has no transform for {name}")

    steps = [v2.ToDtype(torch.float32, scale=True)]

    def add(probability: float, step: Callable[[Tensor], Tensor]) -> None:
        if probability > 0:
            steps.append(v2.RandomApply([step], probability))

    size = [policy.height, policy.width]
    if policy.crop_scale is None:
        steps.append(v2.Resize(size, antialias=True))
    else:
        crop = {"scale": policy.crop_scale, "ratio": policy.crop_ratio}
        steps.append(v2.RandomResizedCrop(size, **crop, antialias=True))
    add(policy.horizontal_flip, v2.RandomHorizontalFlip(1.0))
    add(policy.vertical_flip, v2.RandomVerticalFlip(1.0))
    # None: filling with 0, the default, darkens the border twice.
    bilinear = {"interpolation": v2.InterpolationMode.BILINEAR, "fill": None}
    add(policy.rotation_probability, v2.RandomRotation(policy.rotation, **bilinear))
    jitter = v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue)
    add(policy.jitter_probability, jitter)
    add(policy.grayscale, v2.RandomGrayscale(1.0))
    add(policy.blur_probability, v2.GaussianBlur(policy.blur_kernel, policy.blur_sigma))
    add(policy.solarize_probability, v2.RandomSolarize(policy.solarize_threshold, 1.0))
    add(policy.noise_probability, v2.GaussianNoise(sigma=most_noise))
    if policy.mean is not None:
        steps.append(v2.Normalize(policy.mean, policy.std))
    box = {"scale": policy.erase_scale, "ratio": policy.erase_ratio, "value": policy.erase_value}
    add(policy.erase_probability, v2.RandomErasing(1.0, **box))
    return v2.Compose(steps)


class Maker:
    """Views of a batch. torch's generator is seeded for each of them, by (seed, epoch, number of
    the image, view), and is left as it was."""

    def __init__(self, policy: AugmentPolicy, *, views: int, seed: int) -> None:
        self.transform = transform(policy)
        self.views = views
        self.seed = seed

    def __call__(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        """Images [B, C, H, W] and their numbers [B] -> float32 [V, B, C, h, w]."""
        numbered = list(zip(images, ids.tolist(), strict=True))
        with torch.random.fork_rng(devices=[]):
            views = [
                self._view(image, number, epoch, view)
                for view in range(self.views)
                for image, number in numbered
            ]
        return torch.stack(views).unflatten(0, (self.views, len(images)))

    def _view(self, image: Tensor, number: int, epoch: int, view: int) -> Tensor:
        # Not torch.manual_seed: it would seed the GPU's generator, too.
        torch.default_generator.manual_seed(fold(self.seed, "view", epoch, number, view))
        return self.transform(image)
