"""The CUDA kernels of augmentation: draws are the reference's bits, views its values."""

from __future__ import annotations

import dataclasses
import functools
from typing import Any

import pytest
import torch
from torch import Tensor

from sslkernels import AugmentPolicy, backends, policies
from sslkernels.augment import reference
from sslkernels.augment.draws import draw
from sslkernels.augment.layout import Slot
from sslkernels.augment.op import _outputs
from tests.emulation.cuda import augmenting, build
from tests.emulation.cuda.run import SCHEDULES, Library

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

EVERYTHING = AugmentPolicy(
    (9, 13),
    crop_scale=(0.1, 1.0),
    horizontal_flip=0.5,
    vertical_flip=0.5,
    rotation=40.0,
    brightness=0.5,
    contrast=0.5,
    saturation=0.5,
    hue=0.2,
    grayscale=0.3,
    blur_probability=0.6,
    blur_kernel=5,
    solarize_probability=0.3,
    noise_probability=0.4,
    diff_brightness=(-0.2, 0.2),
    diff_saturation=(0.5, 1.5),
    diff_contrast=(0.7, 1.3),
    translation=0.2,
    erase_probability=0.4,
    erase_value=0.5,
    mean=(0.5, 0.4, 0.3),
    std=(0.2, 0.3, 0.4),
)
TOLERANCE = {torch.float64: 1e-9, torch.float32: 5e-5}  # after division by std


@functools.cache
def drawing() -> Library:
    return Library(augmenting.DRAWS)


@functools.cache
def applying() -> Library:
    return Library(augmenting.FORWARD)


def images_of(shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    if dtype is torch.uint8:
        return torch.randint(256, shape, dtype=dtype, generator=generator)
    return torch.rand(shape, dtype=torch.float64, generator=generator).to(dtype)


def rows_for(images: Tensor, policy: AugmentPolicy, views: int = 2, seed: int = 3) -> Tensor:
    ids = torch.arange(len(images))
    return draw(ids, list(policy.numbers) * views, seed, 0, *images.shape[2:])


def assert_same(images: Tensor, policy: AugmentPolicy, **options: Any) -> Any:
    """The kernel's views are the definition's; returns what was counted."""
    [output] = _outputs([policy], images)
    rows = rows_for(images, policy)
    ours, counts = augmenting.forward(
        applying(), images, rows, output.settings, output.dtype, output.channels_last, **options
    )
    exact = reference.augment(images, rows, output.settings).to(output.dtype)
    tolerance = TOLERANCE.get(output.dtype, 0.05)
    torch.testing.assert_close(ours, exact, rtol=0, atol=tolerance)
    return counts


@pytest.mark.parametrize(
    "policy",
    [policies.simclr(32), policies.byol(24)[1], policies.diffaugment(16), EVERYTHING],
    ids=["simclr", "byol", "diffaugment", "everything"],
)
def test_draws(policy):
    ids = torch.tensor([0, 1, -5, 2**62, 7, 8, 9])
    numbers = list(policy.numbers) * 2
    ours = augmenting.draws(drawing(), ids, numbers, 2**63 + 11, 77, (37, 51), schedule="random")
    assert torch.equal(ours, draw(ids, numbers, 11 - 2**63, 77, 37, 51))


def test_draws_of_every_order():
    """Of the 24 orders of colour jitter."""
    numbers = list(AugmentPolicy(8, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.1).numbers)
    ids = torch.arange(300)
    ours = augmenting.draws(drawing(), ids, numbers, 1, 0, (8, 8))
    assert torch.equal(ours, draw(ids, numbers, 1, 0, 8, 8))
    assert len(ours[0, :, Slot.ORDER : Slot.ORDER + 4].unique(dim=0)) == 24


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_stage_in_any_order_of_threads(schedule):
    assert_same(images_of((6, 3, 20, 17)), EVERYTHING, schedule=schedule)


@pytest.mark.parametrize(
    ("image", "view"), [((1, 1), (1, 1)), ((33, 5), (2, 31)), ((7, 8), (20, 3))]
)
def test_ragged_sizes(image, view):
    kernel = min(5, 2 * min(view) - 1)
    assert_same(
        images_of((3, 3, *image)), dataclasses.replace(EVERYTHING, size=view, blur_kernel=kernel)
    )


@pytest.mark.parametrize("dtype", [torch.uint8, torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_of_images(dtype):
    assert_same(images_of((3, 3, 12, 10), dtype), EVERYTHING)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16, torch.float16])
def test_dtypes_of_views(dtype):
    policy = dataclasses.replace(EVERYTHING, dtype=dtype)
    images = images_of((2, 3, 12, 10))
    [output] = _outputs([policy], images)
    rows = rows_for(images, policy)
    ours, _ = augmenting.forward(applying(), images, rows, output.settings, dtype)
    whole, _ = augmenting.forward(applying(), images, rows, output.settings, torch.float32)
    assert torch.equal(ours, whole.to(dtype))


@pytest.mark.parametrize("last", [False, True])
def test_channels_last(last):
    images = images_of((3, 3, 12, 10)).contiguous(memory_format=torch.channels_last)
    assert_same(images, dataclasses.replace(EVERYTHING, channels_last=last))


def test_one_channel():
    policy = dataclasses.replace(EVERYTHING, mean=(0.5,), std=(0.2,))
    assert_same(images_of((4, 1, 14, 9)), policy)


def test_images_that_do_not_fit_into_shared_memory():
    policy = dataclasses.replace(EVERYTHING, size=(48, 40), blur_probability=1.0)
    assert_same(images_of((1, 3, 30, 41)), policy)


def test_rows_that_nobody_drew_give_nan():
    images = images_of((3, 3, 8, 8))
    policy = AugmentPolicy(6, contrast=0.5)
    [output] = _outputs([policy], images)
    rows = rows_for(images, policy)
    rows[1, 2, Slot.WIDTH] = 9
    ours, _ = augmenting.forward(applying(), images, rows, output.settings, torch.float32)
    broken = torch.zeros(2, 3, dtype=torch.bool)
    broken[1, 2] = True
    assert torch.equal(ours.isnan().flatten(2).all(2), broken)
    assert torch.equal(ours.isnan().flatten(2).any(2), broken)


def crop_sectors(images: Tensor, rows: Tensor) -> int:
    """32-byte sectors that hold a byte of a view's crop, summed over views.

    Images begin at a multiple of 256 bytes, and views may share nothing.
    """
    width = images.element_size()
    offsets = torch.arange(images.numel()).mul(width)
    places = torch.as_strided(offsets, images.shape, images.stride())
    total = 0
    for view in rows:
        for image, (top, left, height, across) in zip(places, view[:, :4].long(), strict=True):
            first = image[:, top : top + height, left : left + across].flatten()
            total += len(torch.cat([first, first + width - 1]).div(32).long().unique())
    return total


def skip_without_cpu_kernels() -> None:
    if reason := backends.why_not("augment", "cpu", torch.empty(0)):
        pytest.skip(reason)


def moved(counts: Any) -> int:
    return sum(x.moved for x in counts if not x.shared)


@pytest.mark.parametrize("dtype", [torch.float32, torch.uint8])
@pytest.mark.parametrize("last", [False, True])
@pytest.mark.parametrize(
    ("image", "policy", "most"),
    [
        ((33, 45), policies.simclr_cifar(32), 1.05),
        ((75, 290), policies.diffaugment(24), 1.05),
        ((120, 83), AugmentPolicy(48, crop_scale=(0.2, 1.0), horizontal_flip=0.5), 1.05),
        ((90, 75), policies.diffaugment(24), 1.05),
        ((61, 19), policies.diffaugment(12), 1.15),
    ],
    ids=["enlarged", "shrunk", "crop", "narrow", "narrowest"],
)
def test_moves_hardly_more_sectors_than_hold_its_data(image, policy, most, dtype, last):
    """The fewest possible are those that hold a byte of the crop, of the view or of its draws, each
    once for every view: between segments these views lie in shared memory."""
    images = images_of((2, 3, *image), dtype)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    counts = assert_same(images, policy)
    rows = rows_for(images, policy)
    written = rows.shape[0] * images.shape[0] * 3 * policy.height * policy.width * 4 // 32
    fewest = crop_sectors(images, rows) + written + rows.numel() * 4 // 32
    assert fewest <= moved(counts) <= most * fewest


def test_large_views_move_whole_sectors():
    """Views that lie in global memory between segments: of each request, the fewest possible are
    its bytes in whole sectors."""
    policy = dataclasses.replace(policies.simclr(48), blur_probability=1.0, blur_kernel=7)
    counts = assert_same(images_of((1, 3, 61, 50)), policy)
    assert moved(counts) <= 1.15 * sum(x.fewest for x in counts if not x.shared)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("offset", [1, 3, 5])
def test_images_on_no_boundary(dtype, offset):
    """Images that begin and end anywhere: nothing outside of them is read."""
    assert_same(images_of((2, 3, 10, 13), dtype), policies.simclr_cifar(16), offset=offset)


def test_rows_that_do_not_fit_into_the_stage():
    assert_same(images_of((1, 3, 5, 2500)), AugmentPolicy(4, crop_scale=(0.8, 1.0)))


@pytest.mark.parametrize(
    "policy",
    [policies.simclr(24), dataclasses.replace(EVERYTHING, mean=None, std=None)],
    ids=["simclr", "everything"],
)
def test_images_are_within_1e_5_of_the_cpu(policy):
    """In units of the images, whose range is 0 to 1: not divided by std."""
    skip_without_cpu_kernels()
    images = images_of((12, 3, 37, 30))
    policy = dataclasses.replace(policy, mean=None, std=None)
    [output] = _outputs([policy], images)
    rows = rows_for(images, policy)
    ours, _ = augmenting.forward(applying(), images, rows, output.settings, torch.float32)
    theirs = torch.ops.sslkernels.augment_forward(
        images, rows, *output.settings, torch.float32, False
    )
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5)


def test_four_channels_are_an_error():
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        assert_same(images_of((1, 4, 8, 8)), AugmentPolicy(4))
