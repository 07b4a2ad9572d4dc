"""`show_grid`: images and their views in one picture."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from sslkernels.augment import arguments
from sslkernels.augment.policy import AugmentPolicy

_GAP = 2


def show_grid(
    images: Tensor,
    views: Tensor | Sequence[Tensor],
    policy: AugmentPolicy | Sequence[AugmentPolicy],
    path: str | Path,
    *,
    rows: int = 8,
    zoom: int = 1,
) -> Path:
    """Write a PNG with a row for each image: the image, then its views, normalisation undone.

    Args:
        images: [B, C, H, W], uint8 or floating in [0, 1]; C is 1 or 3.
        views: what `augment` made of them: [V, B, C, h, w], or a tuple of V tensors [B, C, h, w].
        policy: that of the call; of a sequence, one for each view.
        path: of the file.
        rows: how many images at most.
        zoom: width and height of a pixel.

    Returns:
        The path.

    Raises:
        TypeError, ValueError: channels other than 1 or 3, views that do not belong to the images
            or the policy, rows or zoom below 1.
    """
    for name, value in (("rows", rows), ("zoom", zoom)):
        if value < 1:
            raise ValueError(f"show_grid: {name} must be at least 1, got {value}")
    policies = arguments.policies(
        policy, len(views) if isinstance(policy, AugmentPolicy) else None, "show_grid"
    )
    if images.dim() != 4 or images.shape[1] not in (1, 3):
        raise ValueError(
            f"show_grid: images must be [batch, 1 or 3, height, width], got {list(images.shape)}"
        )
    if len(views) != len(policies) or any(v.shape[:2] != images.shape[:2] for v in views):
        shapes = [list(view.shape) for view in views]
        raise ValueError(
            f"show_grid: views must be {len(policies)} of {list(images.shape[:2])} each, "
            f"got {shapes}"
        )
    columns = [_bytes(images[:rows])]
    for view, own in zip(views, policies, strict=True):
        columns.append(_bytes(_unnormalized(view[:rows].float(), own)))
    columns = [c.repeat_interleave(zoom, 2).repeat_interleave(zoom, 3) for c in columns]
    tall = max(c.shape[2] for c in columns) + _GAP
    wide = [c.shape[3] + _GAP for c in columns]
    count = columns[0].shape[0]
    picture = torch.full((3, count * tall + _GAP, sum(wide) + _GAP), 255, dtype=torch.uint8)
    left = _GAP
    for column, width in zip(columns, wide, strict=True):
        for i, cell in enumerate(column):
            top = _GAP + i * tall
            picture[:, top : top + cell.shape[1], left : left + cell.shape[2]] = cell
        left += width
    path = Path(path)
    path.write_bytes(_png(picture))
    return path


def _bytes(x: Tensor) -> Tensor:
    """[B, 1 or 3, H, W] in uint8, on the CPU."""
    if x.dtype is not torch.uint8:
        x = (x.detach().float().clamp(0, 1) * 255).round().to(torch.uint8)
    return x.cpu()


def _unnormalized(x: Tensor, policy: AugmentPolicy) -> Tensor:
    if policy.mean is None or policy.std is None:
        return x
    mean, std = (x.new_tensor(s)[:, None, None] for s in (policy.mean, policy.std))
    return x * std + mean


def _png(picture: Tensor) -> bytes:
    """[3, H, W] uint8 as a PNG file: RFC 2083, 8 bits a channel, no filter."""
    _, height, width = picture.shape
    pixels = picture.permute(1, 2, 0).reshape(height, width * 3)
    unfiltered = torch.cat([torch.zeros(height, 1, dtype=torch.uint8), pixels], 1)

    def chunk(kind: bytes, content: bytes) -> bytes:
        checksum = zlib.crc32(kind + content)
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", checksum)

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    data = zlib.compress(unfiltered.numpy().tobytes())
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    )
