"""Random views of small images in plain PyTorch.

A policy says what may happen, `draw` makes one row of random numbers for each view of each image
(on the CPU, from a seeded generator: the same on every device), and `apply` turns images and rows
into views without any further randomness.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor


@dataclass(frozen=True)
class Policy:
    """How far a view may be from its image; the defaults suit digits (so no flip)."""

    rotation: float = 20.0  # degrees, either way
    scale: tuple[float, float] = (0.8, 1.2)
    shear: float = 0.2  # horizontal shift per unit of height, either way
    shift: float = 0.15  # fraction of the image's side, either way
    brightness: float = 0.4  # factor 1 - b to 1 + b
    noise: float = 0.1  # standard deviation of the Gaussian noise


@dataclass(frozen=True)
class Draws:
    """The random numbers behind B views.

    affine: [B, 2, 3], from output to input coordinates in -1..1; brightness: [B];
    noise: [B, C, H, W], standard normal.
    """

    affine: Tensor
    brightness: Tensor
    noise: Tensor


def draw(policy: Policy, shape: torch.Size, generator: torch.Generator) -> Draws:
    """Draw for images of this shape [B, C, H, W]."""
    count = shape[0]

    def uniform(low: float, high: float) -> Tensor:
        return low + (high - low) * torch.rand(count, generator=generator)

    angle = uniform(-policy.rotation, policy.rotation) * (math.pi / 180)
    zoom = 1 / uniform(*policy.scale)
    shear = uniform(-policy.shear, policy.shear)
    # The coordinates span 2 from side to side.
    x = uniform(-2 * policy.shift, 2 * policy.shift)
    y = uniform(-2 * policy.shift, 2 * policy.shift)
    cos, sin = zoom * angle.cos(), zoom * angle.sin()
    rows = torch.stack([cos, shear * cos - sin, x, sin, shear * sin + cos, y], dim=1)
    return Draws(
        affine=rows.view(count, 2, 3),
        brightness=uniform(1 - policy.brightness, 1 + policy.brightness),
        noise=torch.randn(shape, generator=generator),
    )


def apply(images: Tensor, draws: Draws, noise: float) -> Tensor:
    """Views [B, C, H, W] of images [B, C, H, W]; what lies outside an image is black."""
    grid = F.affine_grid(draws.affine.to(images), list(images.shape), align_corners=False)
    moved = F.grid_sample(images, grid, padding_mode="zeros", align_corners=False)
    bright = moved * draws.brightness.to(images).view(-1, 1, 1, 1)
    return (bright + noise * draws.noise.to(images)).clamp(0, 1)


def two_views(images: Tensor, policy: Policy, generator: torch.Generator) -> Tensor:
    """Two independent views of each image: [B, C, H, W] -> [2B, C, H, W], first views first."""
    both = torch.cat([images, images])
    return apply(both, draw(policy, both.shape, generator), policy.noise)
