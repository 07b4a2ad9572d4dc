"""Views by torchvision's functions, one image at a time, from a row of draws."""

from __future__ import annotations

import torch
from torch import Tensor
from torchvision.transforms.v2 import InterpolationMode
from torchvision.transforms.v2 import functional as F

from sslkernels import AugmentPolicy
from sslkernels.augment.colour import normals
from sslkernels.augment.layout import Slot

MARGIN = 1e-5


def view(image: Tensor, row: Tensor, policy: AugmentPolicy) -> tuple[Tensor, Tensor]:
    """The view [C, h, w] of a float image, and where rounding decides whether it is solarized."""
    r = row.tolist()
    x = resized_crop(image, [int(v) for v in r[:4]], policy.size)
    x = F.horizontal_flip(x) if r[Slot.HORIZONTAL_FLIP] else x
    x = F.vertical_flip(x) if r[Slot.VERTICAL_FLIP] else x
    if r[Slot.ROTATION]:
        x = F.rotate(x, r[Slot.ROTATION], interpolation=InterpolationMode.BILINEAR)
    for operation in r[Slot.ORDER : Slot.ORDER + 4]:
        if operation == 0:
            x = F.adjust_brightness(x, r[Slot.BRIGHTNESS])
        elif operation == 1:
            x = F.adjust_contrast(x, r[Slot.CONTRAST])
        elif operation == 2:
            x = F.adjust_saturation(x, r[Slot.SATURATION])
        elif operation == 3:
            x = F.adjust_hue(x, r[Slot.HUE])
    if r[Slot.GRAYSCALE] and x.shape[0] == 3:
        x = F.rgb_to_grayscale(x, num_output_channels=3)
    if r[Slot.BLUR_SIGMA]:
        x = F.gaussian_blur(x, [policy.blur_kernel] * 2, [r[Slot.BLUR_SIGMA]] * 2)
    unsure = torch.zeros_like(x)
    if r[Slot.SOLARIZE] <= 1:
        unsure = ((x - r[Slot.SOLARIZE]).abs() < MARGIN).to(x)
        x = F.solarize(x, r[Slot.SOLARIZE])
    if r[Slot.NOISE]:
        keys = row[None, Slot.NOISE_KEY : Slot.NOISE_KEY + 2]
        x = (x + r[Slot.NOISE] * normals(keys, x.shape, torch.float64)[0].to(x)).clamp(0, 1)
    x = diff_colour(x, *r[Slot.DIFF_BRIGHTNESS : Slot.DIFF_CONTRAST + 1])
    x, unsure = (moved(y, int(r[Slot.DOWN]), int(r[Slot.RIGHT])) for y in (x, unsure))
    if policy.mean is not None:
        channels = x.shape[0]
        mean, std = (s * channels if len(s) == 1 else s for s in (policy.mean, policy.std))
        x = F.normalize(x, list(mean), list(std))
    if r[Slot.ERASE_HEIGHT] and r[Slot.ERASE_WIDTH]:
        box = [int(v) for v in r[Slot.ERASE_TOP : Slot.ERASE_TOP + 4]]
        x = F.erase(x, *box, v=torch.full((1, 1, 1), policy.erase_value, dtype=x.dtype))
    return x, unsure > 0


def resized_crop(image: Tensor, box: list[int], size: tuple[int, int]) -> Tensor:
    if size[1] == 1:
        # torch 2.14 reads a single column wrongly when it changes its height, but not a single row.
        x = F.crop(image, *box).transpose(1, 2).contiguous()
        return F.resize(x, [1, size[0]], antialias=True).transpose(1, 2)
    return F.resized_crop(image, *box, size=list(size), antialias=True)


def diff_colour(x: Tensor, brightness: float, saturation: float, contrast: float) -> Tensor:
    """As DiffAugment_pytorch.py of its authors has it, for one image."""
    x = x + brightness
    mean = x.mean(dim=0, keepdim=True)
    x = (x - mean) * saturation + mean
    mean = x.mean(dim=[0, 1, 2], keepdim=True)
    return (x - mean) * contrast + mean


def moved(x: Tensor, down: int, right: int) -> Tensor:
    return F.affine(x, 0.0, [right, down], 1.0, [0.0, 0.0]) if down or right else x


def assert_views(
    views: Tensor, images: Tensor, draws: Tensor, policy: AugmentPolicy, tolerance: float
) -> None:
    """Every view within `tolerance`, measured before normalisation, of torchvision's."""
    images = images.float() / 255 if images.dtype is torch.uint8 else images
    scale = 1.0 if policy.std is None else min(policy.std)
    for v, rows in enumerate(draws):
        for b, row in enumerate(rows):
            expected, unsure = view(images[b].contiguous(), row, policy)
            error = (views[v, b] - expected).abs() * scale
            worst = error.masked_fill(unsure, 0.0).max().item()
            assert worst <= tolerance, (worst, row.tolist())
            assert unsure.float().mean() < 0.01 or unsure.numel() < 100
