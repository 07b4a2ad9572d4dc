"""The arguments of `augment`: checked, and in the form that its operators take."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sslkernels import checks
from sslkernels.augment.layout import COLOURED, ROW
from sslkernels.augment.policy import AugmentPolicy

IMAGE_DTYPES = (torch.uint8, *checks.FLOAT_DTYPES)
LARGEST_SIDE = 2**24  # what a row of float32 can count exactly


def policies(policy: object, views: object, op: str = "augment") -> tuple[AugmentPolicy, ...]:
    """One policy for each view."""
    if views is not None:
        integer("views", views, 1, 2**15)
    if isinstance(policy, AugmentPolicy):
        return (policy,) * (2 if views is None else views)  # type: ignore[operator]
    if not isinstance(policy, Sequence) or not all(isinstance(p, AugmentPolicy) for p in policy):
        raise TypeError(
            f"{op}: policy must be an AugmentPolicy or a sequence of them, "
            f"got {type(policy).__name__}"
        )
    if not policy:
        raise ValueError(f"{op}: policy must hold at least one AugmentPolicy, got none")
    if views is not None and views != len(policy):
        raise ValueError(
            f"{op}: views must be {len(policy)}, one for each policy, or None, got {views}"
        )
    return tuple(policy)


def images(value: object, policies: Sequence[AugmentPolicy]) -> None:
    """[B, C, H, W] of bytes or floats, nothing empty, with channels that the policies can do."""
    checks.tensor("augment", "images", value)
    assert isinstance(value, Tensor)
    shape = list(value.shape)
    if value.dim() != 4 or 0 in shape:
        raise ValueError(
            f"augment: images must be [batch, channels, height, width], none of them 0, got {shape}"
        )
    if max(shape[2:]) > LARGEST_SIDE:
        raise ValueError(f"augment: images must have sides up to {LARGEST_SIDE}, got {shape}")
    if value.dtype not in IMAGE_DTYPES:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in IMAGE_DTYPES)
        came = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"augment: images must be one of {wanted}, got {came}")
    channels = shape[1]
    for policy in policies:
        if channels not in (1, 3) and policy.stages & COLOURED:
            raise ValueError(
                "augment: images must have 1 or 3 channels for colour jitter or grayscale, "
                f"got {channels}"
            )
        if policy.mean is not None and len(policy.mean) not in (1, channels):
            raise ValueError(
                f"augment: mean and std of the policy are for {len(policy.mean)} channels, "
                f"images have {channels}"
            )


def samples(sample_ids: object, images: Tensor) -> Tensor:
    """[B] int64, contiguous."""
    if sample_ids is None:
        return torch.arange(images.shape[0], device=images.device)
    checks.integers("augment", "sample_ids", sample_ids, images.shape[:1], images, "images")
    assert isinstance(sample_ids, Tensor)
    return sample_ids.to(torch.int64).contiguous()


def draws(
    value: object, views: int, images: Tensor, op: str = "augment", name: str = "images"
) -> Tensor:
    """Rows to apply again, [V, B, 32]."""
    checks.tensor(op, "draws", value)
    assert isinstance(value, Tensor)
    wanted = [views, images.shape[0], ROW]
    if list(value.shape) != wanted:
        raise ValueError(f"{op}: draws must have shape {wanted}, got {list(value.shape)}")
    if value.dtype is not torch.float32:
        came = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"{op}: draws must be float32, got {came}")
    checks.same_device(op, "draws", value, name, images)
    return value.detach().contiguous()


def source(seed: object, epoch: object, draws: object) -> None:
    """Either a seed or draws."""
    if (seed is None) == (draws is None):
        have = "both" if draws is not None else "neither"
        raise ValueError(f"augment: seed or draws must be given, and not both, got {have}")
    if seed is not None:
        integer("seed", seed, 0, 2**64 - 1)
    integer("epoch", epoch, 0, 2**24 - 1)


def output(
    name: str, value: object, shape: Sequence[int], dtype: torch.dtype, like: Tensor
) -> None:
    """A tensor that views of this shape can be written into."""
    checks.tensor("augment", name, value)
    assert isinstance(value, Tensor)
    if list(value.shape) != list(shape):
        raise ValueError(f"augment: {name} must have shape {list(shape)}, got {list(value.shape)}")
    if value.dtype is not dtype:
        wanted, came = (str(d).removeprefix("torch.") for d in (dtype, value.dtype))
        raise TypeError(f"augment: {name} must be {wanted}, got {came}")
    checks.same_device("augment", name, value, "images", like)
    last = value.movedim(-3, -1)
    if not value.is_contiguous() and not last.is_contiguous():
        raise ValueError(
            f"augment: {name} must be contiguous or channels_last, got strides {value.stride()}"
        )
    if value.requires_grad:
        raise ValueError(f"augment: {name} must not require a gradient")


def integer(name: str, value: object, low: int, high: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"augment: {name} must be an int, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"augment: {name} must lie in [{low}, {high}], got {value}")
