"""Stages that change pixels where they are, by the definition.

Images are floating, [B, C, H, W], C being 1 or 3 for all that knows of colours; what differs from
image to image is [B, 1, 1, 1]. Of images with one channel, saturation and hue change nothing and
gray is the image itself.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sslkernels import philox

LUMA = (0.2989, 0.587, 0.114)


def gray(x: Tensor) -> Tensor:
    """[B, 1, H, W]."""
    if x.shape[1] == 1:
        return x
    red, green, blue = x.unbind(1)
    return (red * LUMA[0] + green * LUMA[1] + blue * LUMA[2])[:, None]


def jitter(x: Tensor, order: Tensor, factors: Tensor, hue_shift: Tensor) -> Tensor:
    """Up to four operations, each image's in its own order.

    Args:
        order: [B, 4]: 0 brightness, 1 contrast, 2 saturation, 3 hue, -1 none.
        factors: [B, 3], of brightness, contrast and saturation.
        hue_shift: [B].
    """
    brightness, contrast, saturation = (f[:, None, None, None] for f in factors.unbind(1))
    for turn in order.unbind(1):
        turn = turn[:, None, None, None]
        mean = gray(x).mean((2, 3), keepdim=True)
        done = torch.where(turn == 0, (x * brightness).clamp(0, 1), x)
        done = torch.where(turn == 1, _mix(x, mean, contrast), done)
        if x.shape[1] == 3:
            done = torch.where(turn == 2, _mix(x, gray(x), saturation), done)
            done = torch.where(turn == 3, hue(x, hue_shift[:, None, None]), done)
        x = done
    return x


def _mix(x: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    return (x * factor + other * (1 - factor)).clamp(0, 1)


def hue(x: Tensor, shift: Tensor) -> Tensor:
    """Shifts the hue of [B, 3, H, W] by a share of a turn in [-0.5, 0.5], [B, 1, 1].

    That of HSV, with every quotient multiplied by the pixel's span of values: no division, so grey
    pixels, whose hue is undefined, come out as they were.
    """
    red, green, blue = x.unbind(1)
    high, low = x.amax(1), x.amin(1)
    span = high - low
    position = torch.where(
        high == red,
        green - blue,
        torch.where(high == green, blue - red + 2 * span, red - green + 4 * span),
    )
    position = position + 6 * shift * span
    channels = []
    for offset in (5, 3, 1):
        k = position + offset * span
        k = torch.where(k < 0, k + 6 * span, k)
        for _ in range(2):
            k = torch.where(k >= 6 * span, k - 6 * span, k)
        channels.append(high - torch.minimum(torch.minimum(k, 4 * span - k), span).clamp(min=0))
    return torch.stack(channels, 1)


def solarize(x: Tensor, threshold: Tensor) -> Tensor:
    return torch.where(x >= threshold, 1 - x, x)


def add_noise(x: Tensor, deviation: Tensor, keys: Tensor) -> Tensor:
    """Gaussian noise, clamped to [0, 1]; left alone where the deviation is 0. keys: [B, 2]."""
    noisy = (x + deviation * normals(keys, x.shape[1:], x.dtype)).clamp(0, 1)
    return torch.where(deviation > 0, noisy, x)


def normals(keys: Tensor, shape: torch.Size, dtype: torch.dtype) -> Tensor:
    """Standard normal [B, C, H, W], a function of the keys, the channel and the pixel alone.

    The block of (channel // 4, pixel) yields two pairs of words, and a pair two channels, by Box
    and Muller: sqrt(-2 log u) times cos and sin of 2 pi v, where u = ((word >> 8) + 1) * 2**-24 and
    v = (word >> 8) * 2**-24.
    """
    channels, height, width = shape
    pixel = torch.arange(height * width, device=keys.device)
    zero = torch.zeros_like(pixel)
    first, second = keys.to(torch.int64)[:, :, None].unbind(1)
    found = []
    for group in range((channels + 3) // 4):
        counter = (zero + philox.Stream.AUGMENT_NOISE, zero + group, zero, pixel)
        words = [(w >> 8).to(dtype) for w in philox.philox4x32(counter, (first, second))]
        for a, b in (words[:2], words[2:]):
            radius = torch.sqrt(-2 * torch.log((a + 1) * 2.0**-24))
            angle = (2 * math.pi * 2.0**-24) * b
            found += [radius * torch.cos(angle), radius * torch.sin(angle)]
    return torch.stack(found[:channels], 1).view(-1, channels, height, width)


def diff_colour(x: Tensor, brightness: Tensor, saturation: Tensor, contrast: Tensor) -> Tensor:
    """DiffAugment's rand_brightness, rand_saturation and rand_contrast, with given numbers."""
    x = x + brightness
    mean = x.mean(1, keepdim=True)
    x = (x - mean) * saturation + mean
    mean = x.mean((1, 2, 3), keepdim=True)
    return (x - mean) * contrast + mean
