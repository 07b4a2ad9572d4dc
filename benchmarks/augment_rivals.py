"""What others offer for the recipe of a policy: torchvision v2, kornia and albumentations."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.registry import Function

# An AugmentPolicy: what its fields may be given is wider than what they then hold.
Policy = Any


def torchvision_pipeline(policy: Policy) -> Callable[[Tensor], Tensor]:
    """One draw a call, for an image or a batch."""
    from torchvision.transforms import v2

    transforms: list[Any] = [
        v2.RandomResizedCrop(
            policy.size, scale=policy.crop_scale, ratio=policy.crop_ratio, antialias=True
        ),
        v2.RandomHorizontalFlip(policy.horizontal_flip),
        v2.RandomApply(
            [v2.ColorJitter(policy.brightness, policy.contrast, policy.saturation, policy.hue)],
            p=policy.jitter_probability,
        ),
        v2.RandomGrayscale(policy.grayscale),
    ]
    if policy.blur_probability:
        blur = v2.GaussianBlur(policy.blur_kernel, policy.blur_sigma)
        transforms.append(v2.RandomApply([blur], p=policy.blur_probability))
    transforms += [v2.ToDtype(torch.float32, scale=True), v2.Normalize(policy.mean, policy.std)]
    return v2.Compose(transforms)


def torchvision_samples(policy: Policy, views: int) -> Function:
    """One image after the other, then stacked: a Dataset and its collate function."""
    pipeline = torchvision_pipeline(policy)

    def samples(images: Tensor) -> Tensor:
        made = torch.stack([pipeline(image) for _ in range(views) for image in images])
        return made.unflatten(0, (views, len(images)))

    return samples


def torchvision_batch(policy: Policy, views: int) -> Function:
    """The whole batch at once, with one draw for all images."""
    pipeline = torchvision_pipeline(policy)

    def batch(images: Tensor) -> tuple[Tensor, ...]:
        return tuple(pipeline(images) for _ in range(views))

    return batch


def kornia_batch(policy: Policy, views: int) -> Function:
    """The whole batch, with draws for every image."""
    import kornia.augmentation as K

    transforms: list[torch.nn.Module] = [
        K.RandomResizedCrop(
            policy.size, scale=policy.crop_scale, ratio=policy.crop_ratio, align_corners=False
        ),
        K.RandomHorizontalFlip(p=policy.horizontal_flip),
        K.ColorJitter(
            policy.brightness,
            policy.contrast,
            policy.saturation,
            policy.hue,
            p=policy.jitter_probability,
        ),
        K.RandomGrayscale(p=policy.grayscale),
    ]
    if policy.blur_probability:
        kernel = (policy.blur_kernel, policy.blur_kernel)
        transforms.append(
            K.RandomGaussianBlur(kernel, policy.blur_sigma, p=policy.blur_probability)
        )
    transforms.append(K.Normalize(policy.mean, policy.std))
    pipeline = torch.nn.Sequential(*transforms)

    def batch(images: Tensor) -> tuple[Tensor, ...]:
        floats = images if images.is_floating_point() else images / 255
        return tuple(pipeline(floats) for _ in range(views))

    return batch


def albumentations_pipeline(policy: Policy) -> Callable[..., dict[str, Any]]:
    """One draw a call, for an array [H, W, 3] of bytes."""
    quiet_albumentations()
    import albumentations as A
    from albumentations.pytorch import ToTensorV2

    transforms: list[Any] = [
        A.RandomResizedCrop(size=policy.size, scale=policy.crop_scale, ratio=policy.crop_ratio),
        A.HorizontalFlip(p=policy.horizontal_flip),
        A.ColorJitter(
            brightness=policy.brightness,
            contrast=policy.contrast,
            saturation=policy.saturation,
            hue=policy.hue,
            p=policy.jitter_probability,
        ),
        A.ToGray(p=policy.grayscale),
    ]
    if policy.blur_probability:
        transforms.append(
            A.GaussianBlur(
                blur_limit=(policy.blur_kernel, policy.blur_kernel),
                sigma_limit=policy.blur_sigma,
                p=policy.blur_probability,
            )
        )
    return A.Compose([*transforms, A.Normalize(policy.mean, policy.std), ToTensorV2()])


def quiet_albumentations() -> None:
    """Keep its import from looking for a newer version in the network."""
    os.environ.setdefault("NO_ALBUMENTATIONS_UPDATE", "1")


def as_arrays(images: Tensor) -> Tensor:
    """Images [B, H, W, 3], as a decoder leaves them."""
    return images.permute(0, 2, 3, 1).contiguous()


def albumentations_samples(policy: Policy, views: int) -> Function:
    """One image after the other, then stacked."""
    pipeline = albumentations_pipeline(policy)
    last: tuple[Tensor, Any] | None = None

    def samples(images: Tensor) -> Tensor:
        nonlocal last
        # What is decoded is an array: making one is not part of the work.
        if last is None or last[0] is not images:
            last = (images, as_arrays(images).numpy())
        made = [pipeline(image=array)["image"] for _ in range(views) for array in last[1]]
        return torch.stack(made).unflatten(0, (views, len(images)))

    return samples
