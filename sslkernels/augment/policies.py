"""The augmentations of well-known methods: an `AugmentPolicy`, or a tuple with one for each view.

All but `diffaugment` normalise with the statistics of ImageNet, or those that are given.
"""

from __future__ import annotations

from dataclasses import replace

from sslkernels.augment.policy import AugmentPolicy

Statistics = tuple[float, ...] | None

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_STD = (0.2470, 0.2435, 0.2616)


def simclr(
    size: int | tuple[int, int] = 224,
    strength: float = 1.0,
    *,
    mean: Statistics = IMAGENET_MEAN,
    std: Statistics = IMAGENET_STD,
) -> AugmentPolicy:
    """SimCLR's; `strength` scales the colour jitter. Paper: arXiv 2002.05709, appendix A."""
    return AugmentPolicy(
        size,
        crop_scale=(0.08, 1.0),
        horizontal_flip=0.5,
        brightness=0.8 * strength,
        contrast=0.8 * strength,
        saturation=0.8 * strength,
        hue=0.2 * strength,
        jitter_probability=0.8,
        grayscale=0.2,
        blur_probability=0.5,
        blur_sigma=(0.1, 2.0),
        mean=mean,
        std=std,
    )


def simclr_cifar(
    size: int | tuple[int, int] = 32,
    *,
    mean: Statistics = CIFAR10_MEAN,
    std: Statistics = CIFAR10_STD,
) -> AugmentPolicy:
    """SimCLR's for small images: half the jitter, no blur. Paper: arXiv 2002.05709, B.9."""
    return replace(simclr(size, 0.5, mean=mean, std=std), blur_probability=0.0)


def moco_v2(
    size: int | tuple[int, int] = 224,
    *,
    mean: Statistics = IMAGENET_MEAN,
    std: Statistics = IMAGENET_STD,
) -> AugmentPolicy:
    """MoCo v2's. Paper: arXiv 2003.04297; numbers: facebookresearch/moco, main_moco.py."""
    return AugmentPolicy(
        size,
        crop_scale=(0.2, 1.0),
        horizontal_flip=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.1,
        jitter_probability=0.8,
        grayscale=0.2,
        blur_probability=0.5,
        blur_sigma=(0.1, 2.0),
        mean=mean,
        std=std,
    )


def byol(
    size: int | tuple[int, int] = 224,
    *,
    mean: Statistics = IMAGENET_MEAN,
    std: Statistics = IMAGENET_STD,
) -> tuple[AugmentPolicy, AugmentPolicy]:
    """BYOL's two views: always blurred, and seldom blurred but solarized at times.

    Paper: arXiv 2006.07733, appendix B.
    """
    first = AugmentPolicy(
        size,
        crop_scale=(0.08, 1.0),
        horizontal_flip=0.5,
        brightness=0.4,
        contrast=0.4,
        saturation=0.2,
        hue=0.1,
        jitter_probability=0.8,
        grayscale=0.2,
        blur_probability=1.0,
        blur_sigma=(0.1, 2.0),
        mean=mean,
        std=std,
    )
    return first, replace(first, blur_probability=0.1, solarize_probability=0.2)


def dino(
    size: int | tuple[int, int] = 224,
    local_size: int | tuple[int, int] = 96,
    *,
    local_views: int = 8,
    global_scale: tuple[float, float] = (0.4, 1.0),
    local_scale: tuple[float, float] = (0.05, 0.4),
    mean: Statistics = IMAGENET_MEAN,
    std: Statistics = IMAGENET_STD,
) -> tuple[AugmentPolicy, ...]:
    """DINO's multi-crop: two large views and `local_views` small ones.

    Paper: arXiv 2104.14294; numbers: facebookresearch/dino, main_dino.py.

    Raises:
        ValueError: local_views is negative.
    """
    if local_views < 0:
        raise ValueError(f"dino: local_views must be at least 0, got {local_views}")
    first, second = byol(size, mean=mean, std=std)
    first = replace(first, crop_scale=global_scale)
    second = replace(second, crop_scale=global_scale, solarize_threshold=128 / 256)
    local = replace(
        first, size=local_size, crop_scale=local_scale, blur_probability=0.5, blur_kernel=None
    )
    return (first, second, *[local] * local_views)


def diffaugment(
    size: int | tuple[int, int],
    *,
    colour: bool = True,
    translation: float = 0.125,
    cutout: float = 0.5,
) -> AugmentPolicy:
    """DiffAugment's "color,translation,cutout", for GANs whose images lie in [-1, 1].

    `size` is that of the images: nothing is cropped or resized. Paper: arXiv 2006.10738.
    """
    policy = AugmentPolicy(size, translation=translation, cutout=cutout)
    if not colour:
        return policy
    return replace(
        policy, diff_brightness=(-0.5, 0.5), diff_saturation=(0.0, 2.0), diff_contrast=(0.5, 1.5)
    )
