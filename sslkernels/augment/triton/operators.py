"""Augmentation's operators on the Triton kernels: see schemas.py.

The kernels make images of three channels, or of one. Where an image has another number, each of its
channels is made alone; DiffAugment's colours, which mix them, then take the chunked path.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sslkernels.augment import chunked
from sslkernels.augment.layout import Stage
from sslkernels.augment.reference import Settings
from sslkernels.augment.triton import backward, forward
from sslkernels.augment.triton import draws as drawing
from sslkernels.operators import on_device

augment_draws = drawing.augment_draws

_MOST_PIXELS = 2**31 - 2**16  # of a view: they are counted in 32 bits


def augment_forward(
    images: Tensor,
    draws: Tensor,
    size: Sequence[int],
    blur_kernel: int,
    mean: Sequence[float],
    std: Sequence[float],
    erase_value: float,
    stages: int,
    dtype: torch.dtype,
    channels_last: bool,
) -> Tensor:
    """Views [V, B, C, h, w] of `dtype`."""
    out = chunked.empty_views(images, draws, size, dtype, channels_last)
    augment_forward_out(images, draws, size, blur_kernel, mean, std, erase_value, stages, out)
    return out


def augment_forward_out(
    images: Tensor,
    draws: Tensor,
    size: Sequence[int],
    blur_kernel: int,
    mean: Sequence[float],
    std: Sequence[float],
    erase_value: float,
    stages: int,
    out: Tensor,
) -> None:
    """The same into `out`."""
    settings = chunked.settings_of(size, blur_kernel, mean, std, erase_value, stages)
    if not _covers(images, settings):
        chunked.forward_out(images, draws, *settings, out)
        return
    with on_device(images):
        for channels, own in _together(images, settings):
            forward.make_views(images[:, channels], draws, own, channels.start, out[:, :, channels])


def augment_backward(
    grad: Tensor,
    images: Tensor,
    draws: Tensor,
    size: Sequence[int],
    blur_kernel: int,
    mean: Sequence[float],
    std: Sequence[float],
    erase_value: float,
    stages: int,
) -> Tensor:
    """The gradient of floating images, of their shape, dtype and memory format."""
    settings = chunked.settings_of(size, blur_kernel, mean, std, erase_value, stages)
    if not _covers(images, settings):
        return chunked.backward(grad, images, draws, *settings)
    out = torch.empty_like(images)
    with on_device(images):
        for channels, own in _together(images, settings):
            backward.pull_back(
                grad[:, :, channels],
                images[:, channels],
                draws,
                own,
                channels.start,
                out[:, channels],
            )
    return out


def _covers(images: Tensor, settings: Settings) -> bool:
    """Whether there are kernels for the call."""
    mixes = images.shape[1] not in (1, 3) and Stage.DIFF_COLOUR in Stage(settings.stages)
    return not mixes and settings.size[0] * settings.size[1] <= _MOST_PIXELS


def _together(images: Tensor, settings: Settings) -> list[tuple[slice, Settings]]:
    """The channels that are made together, and their settings."""
    count = images.shape[1]
    if count in (1, 3):
        return [(slice(0, count), settings)]
    channels = [slice(c, c + 1) for c in range(count)]
    if not settings.mean:
        return [(c, settings) for c in channels]
    return [(c, settings._replace(mean=settings.mean[c], std=settings.std[c])) for c in channels]
