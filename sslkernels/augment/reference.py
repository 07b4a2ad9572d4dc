"""The definition of augmentation, given images and draws: plain PyTorch, in the images' precision.

Stage by stage it does what torchvision's v2 functions do to float images. It is differentiable in
the images, twice where a stage is, and every other implementation is tested against it.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from sslkernels.augment import colour, spatial
from sslkernels.augment.layout import Slot, Stage
from sslkernels.checks import accumulate_dtype


class Settings(NamedTuple):
    """What views of one size share, in the order in which operators take it: see schemas.py."""

    size: tuple[int, int]
    blur_kernel: int
    mean: tuple[float, ...]
    std: tuple[float, ...]
    erase_value: float
    stages: int


def augment(images: Tensor, draws: Tensor, settings: Settings) -> Tensor:
    """Views [V, B, C, h, w] of images [B, C, H, W], in float64 for float64 images, else float32."""
    x = images.to(accumulate_dtype(images.dtype))
    if images.dtype is torch.uint8:
        x = x / 255
    return torch.stack([_view(x, row, settings) for row in draws.unbind(0)])


def linear_part(change: Tensor, draws: Tensor, settings: Settings) -> Tensor:
    """How the views follow a change of the images [B, C, H, W], where all stages are affine."""
    return augment(change, draws, settings) - augment(torch.zeros_like(change), draws, settings)


def _view(x: Tensor, row: Tensor, settings: Settings) -> Tensor:
    """One view [B, C, h, w]; row: [B, 32]."""
    stages = Stage(settings.stages)

    def box(first: Slot) -> tuple[Tensor, ...]:
        return row[:, first : first + 4].unbind(1)

    def each(slot: Slot) -> Tensor:
        return row[:, slot, None, None, None].to(x.dtype)

    flips = (row[:, Slot.VERTICAL_FLIP], row[:, Slot.HORIZONTAL_FLIP])
    x = spatial.crop_resize_flip(x, box(Slot.TOP), flips, settings.size)
    if Stage.ROTATION in stages:
        x = spatial.rotate(x, row[:, Slot.ROTATION])
    if Stage.COLOUR in stages:
        order = row[:, Slot.ORDER : Slot.ORDER + 4]
        factors = row[:, Slot.BRIGHTNESS : Slot.BRIGHTNESS + 3].to(x.dtype)
        x = colour.jitter(x, order, factors, row[:, Slot.HUE].to(x.dtype))
    if Stage.GRAYSCALE in stages:
        x = torch.where(each(Slot.GRAYSCALE) != 0, colour.gray(x), x)
    if Stage.BLUR in stages:
        x = spatial.blur(x, row[:, Slot.BLUR_SIGMA], settings.blur_kernel)
    if Stage.SOLARIZE in stages:
        x = colour.solarize(x, each(Slot.SOLARIZE))
    if Stage.NOISE in stages:
        keys = row[:, Slot.NOISE_KEY : Slot.NOISE_KEY + 2]
        x = colour.add_noise(x, each(Slot.NOISE), keys)
    if Stage.DIFF_COLOUR in stages:
        slots = (Slot.DIFF_BRIGHTNESS, Slot.DIFF_SATURATION, Slot.DIFF_CONTRAST)
        x = colour.diff_colour(x, *map(each, slots))
    if Stage.TRANSLATION in stages:
        x = spatial.translate(x, row[:, Slot.DOWN], row[:, Slot.RIGHT])
    if settings.mean:
        mean, std = (x.new_tensor(s)[:, None, None] for s in (settings.mean, settings.std))
        x = (x - mean) / std
    if Stage.ERASE in stages:
        x = spatial.erase(x, box(Slot.ERASE_TOP), settings.erase_value)
    return x
