"""Augmentation in Triton, interpreted: draws bit for bit, views and gradients against float64; and
broken on purpose. Run by test_interpreted, as the interpreter needs a process of its own.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import triton
import triton.language as tl

import sslkernels
from sslkernels import AugmentPolicy, augment, backends, policies
from sslkernels.augment import chunked
from sslkernels.augment.draws import draw
from sslkernels.augment.triton import (
    backward,
    draws,
    entries,
    forward,
    memory,
    reverse_sampling,
    sampling,
)
from tests.augment.test_contract import EVERYTHING

STAGES = {
    "nothing": {},
    "crop and flips": {"crop_scale": (0.1, 1.0), "horizontal_flip": 0.5, "vertical_flip": 0.5},
    "rotation": {"rotation": 60.0, "rotation_probability": 0.8},
    "brightness": {"brightness": 0.4},
    "contrast": {"contrast": 0.4, "jitter_probability": 0.8},
    "saturation": {"saturation": 0.4},
    "hue": {"hue": 0.5},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.2},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur_probability": 0.8, "blur_kernel": 7, "blur_sigma": (0.1, 3.0)},
    "solarize": {"solarize_probability": 0.5},
    "noise": {"noise_probability": 0.8},
    "diffaugment": {
        "diff_brightness": (-0.5, 0.5),
        "diff_saturation": (0.0, 2.0),
        "diff_contrast": (0.5, 1.5),
        "translation": 0.3,
        "cutout": 0.5,
    },
    "normalise and erase": {
        "mean": (0.5,),
        "std": (0.25,),
        "erase_probability": 0.7,
        "erase_value": 0.3,
    },
}
ALL: dict = {name: x for stage in STAGES.values() for name, x in stage.items() if name != "cutout"}
SIZES = [
    ((1, 1), (1, 1)),
    ((7, 50), (5, 33)),
    ((33, 16), (40, 17)),
    ((60, 9), (1, 3)),
    ((3, 2), (30, 11)),
]


@pytest.fixture(autouse=True)
def triton_backend():
    with sslkernels.backend("triton"):
        yield


def images_of(shape, dtype=torch.float32) -> torch.Tensor:
    """Away from 0 and 1: there clamps have kinks."""
    generator = torch.Generator().manual_seed(0)
    images = 0.05 + 0.9 * torch.rand(shape, dtype=torch.float64, generator=generator)
    return (255 * images).to(dtype) if dtype is torch.uint8 else images.to(dtype)


def policy_of(size, options=ALL, **more) -> AugmentPolicy:
    options = options | more
    radius = min(size) - 1
    kernel = min(options.get("blur_kernel", 1), 2 * radius + 1)
    return AugmentPolicy(size, **options | {"blur_kernel": kernel})


def check(images, policy, views=2, seed=5, gradient=True) -> None:
    """Against the definition in float64, from the draws that the kernels made."""
    floating = images.is_floating_point()
    leaf = images.clone().requires_grad_(floating and gradient)
    ours, rows = augment(leaf, policy, views=views, seed=seed, return_draws=True)
    exact = (images.double() if floating else images.double() / 255).requires_grad_()
    numbers = list(policy.numbers) * views
    assert torch.equal(rows, draw(torch.arange(len(images)), numbers, seed, 0, *images.shape[2:]))
    with sslkernels.backend("reference"):
        wanted = augment(exact, replace(policy, dtype=torch.float64), views=views, draws=rows)
    scale = 1.0 if policy.std is None else 1 / min(policy.std)
    bound = (1e-4 if policy.jitters("hue") else 1e-5) * scale
    rounding = 0.0 if ours.dtype is torch.float32 else torch.finfo(ours.dtype).eps
    torch.testing.assert_close(ours.double(), wanted, rtol=rounding, atol=bound)
    if leaf.requires_grad:
        upstream = torch.randn(wanted.shape, generator=torch.Generator().manual_seed(1))
        (found,) = torch.autograd.grad(ours, leaf, upstream.to(ours.dtype))
        (expected,) = torch.autograd.grad(wanted, exact, upstream.to(ours.dtype).double())
        assert found.dtype is images.dtype and found.stride() == images.stride()
        largest = float(expected.abs().max())
        rounding = 2e-5 if images.dtype is torch.float32 else torch.finfo(images.dtype).eps
        torch.testing.assert_close(found.double(), expected, rtol=0.0, atol=rounding * largest)


@pytest.mark.parametrize("stage", STAGES)
def test_one_stage(stage):
    policy = policy_of((11, 8), STAGES[stage], crop_scale=(0.4, 1.0))
    check(images_of((3, 3, 13, 9)), policy)


@pytest.mark.parametrize(("image", "view"), SIZES, ids=str)
def test_every_stage_at_ragged_sizes(image, view):
    check(images_of((2, 3, *image)), policy_of(view))


def test_every_stage_of_one_channel():
    check(images_of((3, 1, 13, 9)), policy_of((11, 8)))


@pytest.mark.parametrize(
    ("dtype", "out"),
    [
        (torch.uint8, torch.float32),
        (torch.float32, torch.bfloat16),
        (torch.bfloat16, torch.float16),
        (torch.float16, torch.float32),
    ],
    ids=str,
)
@pytest.mark.parametrize("last", [False, True], ids=["contiguous", "channels last"])
def test_dtypes_and_layouts(dtype, out, last):
    images = images_of((2, 3, 16, 14), dtype)
    if last:
        images = images.contiguous(memory_format=torch.channels_last)
    check(images, policy_of((9, 17), dtype=out, channels_last=last))


@pytest.mark.parametrize("channels", [2, 5])
def test_other_channels(channels, monkeypatch):
    """Alone, unless colours are mixed."""
    options = {"rotation": 20.0, "noise_probability": 0.8, "blur_probability": 0.5}
    images = images_of((2, channels, 12, 14))
    mean, std = (0.1,) * channels, tuple(0.2 + 0.1 * i for i in range(channels))
    check(images, AugmentPolicy((9, 17), mean=mean, std=std, **options))
    check(images, policy_of((9, 8), STAGES["diffaugment"]))
    monkeypatch.delattr(chunked, "forward_out")
    augment(images, AugmentPolicy((9, 17), **options), seed=0)
    with pytest.raises(AttributeError, match="forward_out"):
        augment(images, policy_of((9, 8), STAGES["diffaugment"]), seed=0)


@pytest.mark.parametrize(
    "policy",
    [
        EVERYTHING,
        *policies.dino(24, 12, local_views=1),
        policies.diffaugment(17),
        AugmentPolicy((9, 70), crop_scale=(0.9, 1.0), crop_ratio=(3.0, 4.0), translation=0.3),
        AugmentPolicy(9, erase_probability=0.7, erase_scale=(0.5, 0.9), erase_ratio=(0.01, 99.0)),
    ],
)
def test_draws_are_those_of_the_definition(policy):
    ids = torch.arange(70) * 12345678901 - 7
    for seed, epoch, size in ((-5, 3, (31, 47)), (1, 2**24 - 1, (1, 1)), (2**40, 0, (300, 20))):
        numbers = list(policy.numbers) * 2
        found = draws.augment_draws(ids, numbers, seed, epoch, *size)
        assert torch.equal(found, draw(ids, numbers, seed, epoch, *size))


class TestWorkspace:
    def views_and_gradient(self):
        images = images_of((3, 3, 9, 10)).requires_grad_()
        views = augment(images, policy_of((8, 7)), seed=1)
        return views.detach(), torch.autograd.grad(views.sin().sum(), images)[0]

    def test_samples_that_do_not_fit_are_made_in_turn(self, monkeypatch, kernel_memory):
        wanted = self.views_and_gradient()
        launches = kernel_memory.launches
        monkeypatch.setattr(memory, "WORKSPACE_MIB", 0.0)
        found = self.views_and_gradient()
        assert kernel_memory.launches - launches > 2 * launches
        assert all(map(torch.equal, found, wanted))

    def test_no_atomics(self, kernel_memory):
        self.views_and_gradient()
        assert kernel_memory.updated == 0

    def test_a_view_without_entries_is_written_once(self, kernel_memory):
        images, policy = images_of((2, 3, 9, 10), torch.uint8), AugmentPolicy((8, 7), grayscale=0.5)
        _, rows = augment(images, policy, views=1, seed=1, return_draws=True)
        kernel_memory.reset()
        augment(images, policy, views=1, draws=rows)
        assert kernel_memory.launches == 1
        assert kernel_memory.stored == 4 * 2 * 3 * 8 * 7

    def test_into_out(self):
        images, policy = images_of((2, 3, 9, 10)), policy_of((8, 7))
        wanted = augment(images, policy, seed=1)
        for out in (torch.zeros(2, 2, 3, 8, 7), torch.zeros(2, 2, 8, 7, 3).movedim(-1, 2)):
            assert augment(images, policy, seed=1, out=out) is out
            assert torch.equal(out, wanted)


def test_nan_stays_in_its_image():
    images = images_of((2, 3, 9, 10))
    images[1, 1, 4, 5] = float("nan")
    views = augment(images, policy_of((8, 7), ALL, erase_probability=0.0), seed=1)
    assert views[:, 0].isfinite().all() and views[:, 1].isnan().flatten(1).any(1).all()


def test_rows_that_nobody_drew_read_nothing_else():
    """Zeros stand where they point outside of the image."""
    images = images_of((2, 3, 8, 8)).requires_grad_()
    policy = policy_of((6, 6))
    _, rows = augment(images, policy, seed=1, return_draws=True)
    for slot, value in ((0, -1.0), (1, 1e9), (2, 9.0), (24, 1e9), (25, -3.0), (17, 1e9)):
        wrong = rows.clone()
        wrong[1, 1, slot] = value
        augment(images, policy, draws=wrong).sum().backward()


def test_reasons():
    assert backends.why_not("augment", "triton", torch.zeros(1, dtype=torch.uint8)) == ""
    reason = backends.why_not("augment", "triton", torch.zeros(1, dtype=torch.float64))
    assert reason == "they take uint8, float32, bfloat16 and float16, not float64"


@triton.jit
def not_mirrored(place, side):
    return place


@triton.jit
def mirrored_with_border(place, side):
    place = tl.where(place < 0, -place - 1, place)
    return tl.minimum(place, 2 * side - 1 - place)


@triton.jit
def next_pixel(y, x, stride_y, stride_x):
    return y.to(tl.int64) * stride_y + (x + 1).to(tl.int64) * stride_x


@triton.jit
def no_end(position, end, centre, inverse):
    return tl.maximum(1.0 - tl.abs((position.to(tl.float32) - centre + 0.5) * inverse), 0.0)


@triton.jit
def one_image(workspace, entry, views, view, sample, samples, plane, STAGES, RGB):
    return memory_image_of(workspace, entry, views, view, sample * 0, samples, plane, STAGES, RGB)


@triton.jit
def one_total(y, x, height, width, flip, other, image_height, image_width, rows, columns):
    return y.to(tl.float32) * 0.0 + 1.0


memory_image_of = memory.image_of


class TestBrokenKernels:
    """Each defect must be caught, by an error of the checkers or by the values."""

    @pytest.mark.parametrize(
        ("modules", "name", "broken", "message"),
        [
            ([sampling], "mirrored", not_mirrored, "OutOfBounds|Race"),
            ([sampling], "mirrored", mirrored_with_border, "Tensor-likes"),
            ([sampling], "pixel_offset", next_pixel, "OutOfBounds|Tensor-likes"),
            ([sampling], "tap_weight", no_end, "Tensor-likes"),
            ([entries, forward, backward], "image_of", one_image, "Race"),
            ([reverse_sampling], "resize_totals", one_total, "Tensor-likes"),
        ],
        ids=["no mirror", "border twice", "off by one", "no end", "one workspace", "weights"],
    )
    def test_a_broken_part(self, monkeypatch, modules, name, broken, message):
        images, policy = images_of((2, 3, 12, 9)), policy_of((8, 7), BROKEN)
        check(images, policy, views=1)
        for module in modules:
            monkeypatch.setattr(module, name, broken)
        with pytest.raises(Exception, match=message):
            check(images, policy, views=1)


BROKEN = STAGES["blur"] | {"blur_probability": 1.0, "crop_scale": (0.3, 0.9), "contrast": 0.4}
