"""The gradient of augmentation by the CUDA kernels: the definition's, and the CPU's."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels import AugmentPolicy, policies
from sslkernels.augment import reference
from sslkernels.augment.layout import Slot
from sslkernels.augment.op import _outputs
from sslkernels.augment.reference import Settings
from sslkernels.checks import accumulate_dtype
from tests.emulation.cuda import augmenting, build
from tests.emulation.cuda.run import SCHEDULES, Library
from tests.emulation.cuda.test_augment import (
    EVERYTHING,
    images_of,
    rows_for,
    skip_without_cpu_kernels,
)

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

TOLERANCE = {torch.float64: 1e-9, torch.float32: 2e-5, torch.bfloat16: 0.01, torch.float16: 2e-3}
"""Of the largest value."""


@functools.cache
def library() -> Library:
    return Library(augmenting.BACKWARD)


def settings_of(policy: AugmentPolicy, images: Tensor) -> Settings:
    [output] = _outputs([policy], images)
    return output.settings


def upstream(images: Tensor, rows: Tensor, settings: Settings) -> Tensor:
    shape = (rows.shape[0], *images.shape[:2], *settings.size)
    generator = torch.Generator().manual_seed(1)
    return torch.rand(shape, dtype=torch.float64, generator=generator).to(
        accumulate_dtype(images.dtype)
    )


def by_definition(grad: Tensor, images: Tensor, rows: Tensor, settings: Settings) -> Tensor:
    """In float64."""
    exact = images.double().requires_grad_()
    views = reference.augment(exact, rows, settings)
    return torch.autograd.grad(views, exact, grad.double())[0]


def assert_same(
    images: Tensor, policy: AugmentPolicy, views: int = 2, seed: int = 3, **options: Any
) -> Any:
    """The kernels' gradient is the definition's; returns it and what was counted."""
    settings = settings_of(policy, images)
    rows = rows_for(images, policy, views, seed)
    grad = upstream(images, rows, settings)
    ours, counts = augmenting.backward(library(), grad, images, rows, settings, **options)
    exact = by_definition(grad, images, rows, settings)
    assert ours.dtype is images.dtype and ours.stride() == images.stride()
    tolerance = TOLERANCE[images.dtype] * float(exact.abs().max())
    torch.testing.assert_close(ours.double(), exact, rtol=0, atol=tolerance)
    return ours, counts


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_stage_in_any_order_of_threads(schedule):
    assert_same(images_of((6, 3, 20, 17)), EVERYTHING, schedule=schedule)


@pytest.mark.parametrize(
    ("image", "view"), [((1, 1), (1, 1)), ((33, 5), (2, 31)), ((7, 8), (20, 3)), ((90, 70), (6, 5))]
)
def test_ragged_sizes(image, view):
    kernel = min(5, 2 * min(view) - 1)
    policy = dataclasses.replace(EVERYTHING, size=view, blur_kernel=kernel)
    assert_same(images_of((3, 3, *image), torch.float64), policy)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes(dtype):
    assert_same(images_of((3, 3, 12, 10), dtype), EVERYTHING, views=3)


def test_channels_last():
    images = images_of((3, 3, 12, 10)).contiguous(memory_format=torch.channels_last)
    assert_same(images, EVERYTHING)


def test_one_channel():
    policy = dataclasses.replace(EVERYTHING, mean=(0.5,), std=(0.2,))
    assert_same(images_of((4, 1, 14, 9), torch.float64), policy)


@pytest.mark.parametrize(
    "policy",
    [
        policies.simclr(16),
        policies.diffaugment(16),
        AugmentPolicy(9, crop_scale=(0.2, 1.0)),
        AugmentPolicy((40, 9), rotation=180.0, blur_probability=1.0, blur_kernel=17),
        AugmentPolicy(48, rotation=20.0, contrast=0.5, blur_probability=1.0, noise_probability=1.0),
    ],
    ids=["simclr", "diffaugment", "crop", "affine", "too large for shared memory"],
)
def test_policies(policy):
    assert_same(images_of((2, 3, 24, 30)), policy)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_is_that_of_the_cpu(dtype):
    skip_without_cpu_kernels()
    images = images_of((8, 3, 20, 17), dtype)
    settings = settings_of(EVERYTHING, images)
    rows = rows_for(images, EVERYTHING)
    grad = upstream(images, rows, settings)
    ours, _ = augmenting.backward(library(), grad, images, rows, settings)
    theirs = torch.ops.sslkernels.augment_backward(grad, images, rows, *settings)
    tolerance = (2e-6 if dtype is torch.float32 else 1e-14) * float(theirs.abs().max())
    torch.testing.assert_close(ours, theirs, rtol=0, atol=tolerance)


def test_rows_that_nobody_drew_give_nan():
    images = images_of((3, 3, 8, 8))
    policy = AugmentPolicy(6, contrast=0.5)
    settings = settings_of(policy, images)
    rows = rows_for(images, policy)
    rows[1, 2, Slot.WIDTH] = 9
    grad = upstream(images, rows, settings)
    ours, _ = augmenting.backward(library(), grad, images, rows, settings)
    assert ours.isnan().flatten(1).all(1).tolist() == [False, False, True]
    assert ours.isnan().flatten(1).any(1).tolist() == [False, False, True]


def test_bytes_have_no_gradient():
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        images = images_of((1, 3, 8, 8), torch.uint8)
        settings = settings_of(AugmentPolicy(4), images)
        rows = rows_for(images, AugmentPolicy(4))
        augmenting.backward(library(), upstream(images, rows, settings), images, rows, settings)


def test_more_images_than_go_at_once():
    """Two multiprocessors with two blocks each, four views for a block: eight images at a time."""
    assert_same(images_of((9, 3, 6, 7)), dataclasses.replace(EVERYTHING, size=(5, 4)))
