"""The definition as operators: some images at a time, and recomputed in the backward."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from sslkernels.augment import reference
from sslkernels.augment.reference import Settings
from sslkernels.checks import accumulate_dtype

BUDGET = 64 * 2**20
"""Bytes for what one chunk holds at a time."""

_AUTOGRAD = torch._C.DispatchKeySet(torch._C.DispatchKey.AutogradFunctionality)


def forward(
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
    out = empty_views(images, draws, size, dtype, channels_last)
    forward_out(images, draws, size, blur_kernel, mean, std, erase_value, stages, out)
    return out


def forward_out(
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
    settings = settings_of(size, blur_kernel, mean, std, erase_value, stages)
    for rows in _chunks(images, draws, settings):
        for view, row in enumerate(draws):
            out[view, rows] = reference.augment(images[rows], row[None, rows], settings)[0]


def backward(
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
    settings = settings_of(size, blur_kernel, mean, std, erase_value, stages)
    result = torch.empty_like(images)
    for rows in _chunks(images, draws, settings):
        chunk = images[rows].to(accumulate_dtype(images.dtype))
        total = torch.zeros_like(chunk)
        for view, row in enumerate(draws):
            total += _pull_back(grad[view, rows], chunk, row[None, rows], settings)
        result[rows] = total
    return result


def empty_views(
    images: Tensor, draws: Tensor, size: Sequence[int], dtype: torch.dtype, channels_last: bool
) -> Tensor:
    """[V, B, C, h, w] as schemas.py says."""
    views, batch, channels = draws.shape[0], *images.shape[:2]
    height, width = size
    if channels_last:
        shape = (views, batch, height, width, channels)
        return images.new_empty(shape, dtype=dtype).permute(0, 1, 4, 2, 3)
    return images.new_empty((views, batch, channels, height, width), dtype=dtype)


def settings_of(
    size: Sequence[int],
    blur_kernel: int,
    mean: Sequence[float],
    std: Sequence[float],
    erase_value: float,
    stages: int,
) -> Settings:
    """The settings of an operator's call."""
    height, width = size
    return Settings((height, width), blur_kernel, tuple(mean), tuple(std), erase_value, stages)


def _pull_back(grad: Tensor, images: Tensor, row: Tensor, settings: Settings) -> Tensor:
    """The gradient of one view."""
    # Around an operator autograd may be switched off, by dispatch modes for one.
    include = torch._C._dispatch_tls_local_include_set()
    exclude = torch._C._dispatch_tls_local_exclude_set() - _AUTOGRAD
    with torch._C._ForceDispatchKeyGuard(include, exclude), torch.enable_grad():
        leaf = images.detach().requires_grad_()
        value = reference.augment(leaf, row, settings)[0]
        return torch.autograd.grad(value, leaf, grad)[0]


def _chunks(images: Tensor, draws: Tensor, settings: Settings) -> Iterator[slice]:
    """Slices of the batch."""
    batch, channels, height, width = images.shape
    across, down = settings.size[1], settings.size[0]
    # The image, rows resized alone, and some ten views: what the stages hold between them.
    numbers = channels * (height * width + 2 * height * across + 10 * down * across)
    step = max(1, BUDGET // (numbers * accumulate_dtype(images.dtype).itemsize))
    for begin in range(0, batch, step):
        yield slice(begin, begin + step)
