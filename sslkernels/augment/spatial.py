"""Stages that move pixels, by the definition: linear in the images, differentiable twice.

Images are floating, [B, C, H, W]; what differs from image to image is [B].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def crop_resize_flip(
    images: Tensor, box: tuple[Tensor, ...], flips: tuple[Tensor, Tensor], size: tuple[int, int]
) -> Tensor:
    """Boxes (top, left, height, width) to views of one size, antialiased bilinear, then flipped.

    Taps stay inside the box, as after a real crop. The arithmetic is that of torch's
    `interpolate(mode="bilinear", antialias=True)`; [B, C, h, w].
    """
    top, left, height, width = box
    vertical, horizontal = flips
    across = _taps(left, width, horizontal, images.shape[3], size[1], images.dtype)
    down = _taps(top, height, vertical, images.shape[2], size[0], images.dtype)
    return _blend(_blend(images, 3, *across), 2, *down)


def _taps(
    begin: Tensor, length: Tensor, flip: Tensor, side: int, size: int, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Indices and weights [B, size, T] of what each output sums; T fits the longest box."""
    place = torch.arange(size, device=begin.device)
    place = torch.where(flip[:, None] != 0, size - 1 - place, place)
    begin, length = begin[:, None, None].to(dtype), length[:, None, None].to(dtype)
    scale = length / size
    support = scale.clamp(min=1.0)
    centre = scale * (place[:, :, None].to(dtype) + 0.5)
    first = torch.trunc(centre - support + 0.5).clamp(min=0.0)
    end = torch.minimum(torch.trunc(centre + support + 0.5), length)
    count = min(side, math.ceil(2 * max(side / size, 1.0)) + 1)
    position = first + torch.arange(count, device=begin.device)
    weight = (1.0 - ((position - centre + 0.5) * (1.0 / support)).abs()).clamp(min=0.0)
    weight = torch.where(position < end, weight, 0.0)
    index = begin + torch.minimum(position, end - 1)
    return index.to(torch.int64), weight / weight.sum(2, keepdim=True)


def _blend(images: Tensor, dim: int, index: Tensor, weight: Tensor) -> Tensor:
    """Sums taps along a dimension, 2 or 3."""
    shape = list(images.shape)
    shape[dim] = index.shape[1]
    view = [images.shape[0], 1, 1, 1]
    view[dim] = index.shape[1]
    total = images.new_zeros(shape)
    for t in range(index.shape[2]):
        taken = images.gather(dim, index[:, :, t].reshape(view).expand(shape))
        total = total + weight[:, :, t].reshape(view) * taken
    return total


def rotate(x: Tensor, degrees: Tensor) -> Tensor:
    """Counter-clockwise about the centre, bilinear, zero outside; left alone at 0 degrees."""
    height, width = x.shape[2:]
    exact = torch.float32 if x.device.type == "mps" else torch.float64
    radians = degrees.to(exact) * (math.pi / 180)
    cos, sin = (f(radians).to(x.dtype)[:, None, None] for f in (torch.cos, torch.sin))
    down = torch.arange(height, device=x.device, dtype=x.dtype)[:, None] - (height - 1) / 2
    right = torch.arange(width, device=x.device, dtype=x.dtype) - (width - 1) / 2
    source_x = cos * right - sin * down + (width - 1) / 2
    source_y = sin * right + cos * down + (height - 1) / 2
    left, top = source_x.floor(), source_y.floor()
    rotated = torch.zeros_like(x)
    for dy in (0, 1):
        for dx in (0, 1):
            column, row = left + dx, top + dy
            weight = (1 - (source_x - column).abs()) * (1 - (source_y - row).abs())
            inside = (column >= 0) & (column < width) & (row >= 0) & (row < height)
            index = row.clamp(0, height - 1) * width + column.clamp(0, width - 1)
            index = index.to(torch.int64).flatten(1)[:, None].expand(x.shape[0], x.shape[1], -1)
            taken = x.flatten(2).gather(2, index).view_as(x)
            rotated = rotated + torch.where(inside[:, None], weight[:, None] * taken, 0.0)
    return torch.where(_each(degrees) != 0, rotated, x)


def blur(x: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian, by rows and columns, mirrored at the border; left alone where sigma is 0."""
    offsets = torch.arange(kernel, device=x.device) - kernel // 2
    positive = torch.where(sigma > 0, sigma, 1.0).to(x.dtype)[:, None]
    weight = torch.exp(-0.5 * (offsets / positive) ** 2)
    weight = weight / weight.sum(1, keepdim=True)
    blurred = x
    for dim in (3, 2):
        side = x.shape[dim]
        place = torch.arange(side, device=x.device)
        total = torch.zeros_like(x)
        for t in range(kernel):
            mirrored = (place + (t - kernel // 2)).abs()
            mirrored = torch.minimum(mirrored, 2 * (side - 1) - mirrored)
            total = total + _each(weight[:, t]) * blurred.index_select(dim, mirrored)
        blurred = total
    return torch.where(_each(sigma) > 0, blurred, x)


def translate(x: Tensor, down: Tensor, right: Tensor) -> Tensor:
    """Moved by whole pixels, zero where nothing comes from."""
    for dim, shift in ((2, down), (3, right)):
        side = x.shape[dim]
        place = torch.arange(side, device=x.device) - shift[:, None].to(torch.int64)
        view = [x.shape[0], 1, 1, 1]
        view[dim] = side
        index = place.clamp(0, side - 1).view(view).expand(x.shape)
        inside = ((place >= 0) & (place < side)).view(view)
        x = torch.where(inside, x.gather(dim, index), 0.0)
    return x


def erase(x: Tensor, box: tuple[Tensor, ...], value: float) -> Tensor:
    """Boxes (top, left, height, width) filled with one value."""
    top, left, height, width = (b[:, None] for b in box)
    row = torch.arange(x.shape[2], device=x.device)
    column = torch.arange(x.shape[3], device=x.device)
    rows = (row >= top) & (row < top + height)
    columns = (column >= left) & (column < left + width)
    return torch.where((rows[:, :, None] & columns[:, None, :])[:, None], value, x)


def _each(x: Tensor) -> Tensor:
    return x[:, None, None, None]
