"""What draws do to places: masks and boxes that belong to the images.

Only crop, resize, flips, rotation and translation move things; all else leaves places alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels import checks
from sslkernels.augment import arguments
from sslkernels.augment.layout import Slot
from sslkernels.augment.policy import AugmentPolicy


def apply_to_masks(
    masks: Tensor, draws: Tensor, policy: AugmentPolicy | Sequence[AugmentPolicy], *, fill: int = 0
) -> Any:
    """The masks of views: nearest pixels, as torchvision has it for masks.

    Args:
        masks: [B, H, W] or [B, K, H, W] of any dtype, of the images that were augmented.
        draws: [V, B, 32], from `augment(..., return_draws=True)`.
        policy: that of the call; of a sequence, one for each view.
        fill: what is seen where rotation and translation bring nothing.

    Returns:
        [V, B, h, w] or [V, B, K, h, w] with the dtype of masks; a tuple with a tensor for each view
        where sizes differ.

    Raises:
        TypeError: masks or draws that are no tensors, or draws that are not float32.
        ValueError: masks that are not 3-D or 4-D, draws of another shape or device, policies of
            another number than views.
    """
    op = "apply_to_masks"
    checks.tensor(op, "masks", masks)
    if masks.dim() not in (3, 4):
        raise ValueError(
            f"{op}: masks must be [batch, height, width] or [batch, kinds, height, width], "
            f"got {list(masks.shape)}"
        )
    sizes = _sizes(op, policy, draws, masks, "masks")
    planes = masks if masks.dim() == 4 else masks[:, None]
    views = []
    for size, row in zip(sizes, draws.unbind(0), strict=True):
        index, inside = _sources(row, size, planes.shape[2:])
        index = index.flatten(1)[:, None].expand(*planes.shape[:2], -1)
        taken = planes.flatten(2).gather(2, index).unflatten(2, size)
        view = torch.where(inside[:, None], taken, fill).to(masks.dtype)
        views.append(view if masks.dim() == 4 else view[:, 0])
    return torch.stack(views) if len(set(sizes)) == 1 else tuple(views)


def apply_to_boxes(
    boxes: Tensor,
    draws: Tensor,
    policy: AugmentPolicy | Sequence[AugmentPolicy],
    *,
    clip: bool = True,
) -> Tensor:
    """The boxes of views; of a rotated box, the upright one around it.

    Args:
        boxes: [B, N, 4] floating: left, top, right and bottom in pixels of the images.
        draws: [V, B, 32], from `augment(..., return_draws=True)`.
        policy: that of the call; of a sequence, one for each view.
        clip: cut boxes off where the view ends, after each stage; what was cropped away has no
            area then.

    Returns:
        [V, B, N, 4] with the dtype of boxes, in pixels of each view. Differentiable.

    Raises:
        TypeError: boxes that are not floating, draws that are not float32.
        ValueError: boxes or draws of another shape or device, policies of another number than
            views.
    """
    op = "apply_to_boxes"
    checks.tensor(op, "boxes", boxes)
    checks.floating(op, "boxes", boxes)
    if boxes.dim() != 3 or boxes.shape[2] != 4:
        raise ValueError(f"{op}: boxes must be [batch, boxes, 4], got {list(boxes.shape)}")
    sizes = _sizes(op, policy, draws, boxes, "boxes")

    def cut(x: Tensor, side: int) -> Tensor:
        return x.clamp(0, side) if clip else x

    exact = boxes.to(checks.accumulate_dtype(boxes.dtype))
    views = []
    for (height, width), row in zip(sizes, draws.to(exact.dtype).unbind(0), strict=True):
        column = row[:, :, None].unbind(1)
        x, y = exact[..., 0::2], exact[..., 1::2]
        x = (x - column[Slot.LEFT][..., None]) * (width / column[Slot.WIDTH])[..., None]
        y = (y - column[Slot.TOP][..., None]) * (height / column[Slot.HEIGHT])[..., None]
        x = torch.where(column[Slot.HORIZONTAL_FLIP][..., None] != 0, width - x.flip(-1), x)
        y = torch.where(column[Slot.VERTICAL_FLIP][..., None] != 0, height - y.flip(-1), y)
        # Each stage shows no more than the one before: cut off in between, too.
        x, y = _rotated(cut(x, width), cut(y, height), column[Slot.ROTATION], (height, width))
        x, y = cut(x, width), cut(y, height)
        x, y = x + column[Slot.RIGHT][..., None], y + column[Slot.DOWN][..., None]
        x, y = cut(x, width), cut(y, height)
        views.append(torch.stack([x, y], -1).flatten(-2))
    return torch.stack(views).to(boxes.dtype)


def _sizes(
    op: str, policy: object, draws: object, like: Tensor, name: str
) -> list[tuple[int, int]]:
    """The size of each view, and draws that fit them."""
    checks.tensor(op, "draws", draws)
    assert isinstance(draws, Tensor)
    views = draws.shape[0] if draws.dim() and isinstance(policy, AugmentPolicy) else None
    policies = arguments.policies(policy, views, op)
    arguments.draws(draws, len(policies), like, op, name)
    return [(p.height, p.width) for p in policies]


def _sources(row: Tensor, size: tuple[int, int], side: torch.Size) -> tuple[Tensor, Tensor]:
    """For every pixel of a view the pixel of the image that it shows, and whether it shows any.

    The index counts along rows; both [B, h, w].
    """
    height, width = size
    column = row[:, :, None, None].unbind(1)
    y = torch.arange(height, device=row.device)[:, None] - column[Slot.DOWN]
    x = torch.arange(width, device=row.device) - column[Slot.RIGHT]
    y, x = torch.broadcast_tensors(y, x)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)

    exact = torch.float32 if row.device.type == "mps" else torch.float64
    radians = column[Slot.ROTATION].to(exact) * (math.pi / 180)
    cos, sin = torch.cos(radians), torch.sin(radians)
    down, right = y - (height - 1) / 2, x - (width - 1) / 2
    x = torch.round(cos * right - sin * down + (width - 1) / 2)
    y = torch.round(sin * right + cos * down + (height - 1) / 2)
    inside = inside & (y >= 0) & (y < height) & (x >= 0) & (x < width)

    y = torch.where(column[Slot.VERTICAL_FLIP] != 0, height - 1 - y, y).clamp(0, height - 1)
    x = torch.where(column[Slot.HORIZONTAL_FLIP] != 0, width - 1 - x, x).clamp(0, width - 1)
    y = column[Slot.TOP] + _nearest(y, column[Slot.HEIGHT], height)
    x = column[Slot.LEFT] + _nearest(x, column[Slot.WIDTH], width)
    return (y * side[1] + x).to(torch.int64), inside


def _nearest(place: Tensor, length: Tensor, size: int) -> Tensor:
    """torch's rule for `interpolate(mode="nearest")`, in its float32."""
    source = torch.floor(place.to(torch.float32) * (length / size))
    return torch.minimum(source, length - 1).to(place.dtype)


def _rotated(x: Tensor, y: Tensor, degrees: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Upright boxes around rotated ones; x and y: [B, N, 2], from and to."""
    radians = degrees[..., None] * (math.pi / 180)
    cos, sin = torch.cos(radians), torch.sin(radians)
    across, down = size[1] / 2, size[0] / 2
    # Four corners: both x with both y.
    right, below = x[..., [0, 0, 1, 1]] - across, y[..., [0, 1, 0, 1]] - down
    turned_x = cos * right + sin * below + across
    turned_y = cos * below - sin * right + down
    turned = degrees[..., None] != 0
    x = torch.where(turned, torch.stack([turned_x.amin(-1), turned_x.amax(-1)], -1), x)
    y = torch.where(turned, torch.stack([turned_y.amin(-1), turned_y.amax(-1)], -1), y)
    return x, y
