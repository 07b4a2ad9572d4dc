"""Every stage alone, and random compositions, against torchvision's functions on float images."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from sslkernels import AugmentPolicy, augment, policies

pytest.importorskip("torchvision")

from tests.augment.by_torchvision import assert_views

TOLERANCE = 1e-5
HUE_TOLERANCE = 1e-4

STAGES = {
    "crop": {},
    "flips": {"horizontal_flip": 0.5, "vertical_flip": 0.5},
    "rotation": {"rotation": 180.0, "rotation_probability": 0.8},
    "brightness": {"brightness": 0.8},
    "contrast": {"contrast": 0.8},
    "saturation": {"saturation": 0.8},
    "hue": {"hue": 0.5},
    "jitter": {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4, "hue": 0.1},
    "grayscale": {"grayscale": 0.5},
    "blur": {"blur_probability": 0.9},
    "solarize": {"solarize_probability": 0.7},
    "noise": {"noise_probability": 0.8, "noise_std": (0.01, 0.3)},
    "DiffAugment": {
        "diff_brightness": (-0.5, 0.5),
        "diff_saturation": (0.0, 2.0),
        "diff_contrast": (0.5, 1.5),
    },
    "translation": {"translation": 0.3},
    "normalize": {"mean": (0.3, 0.5, 0.7), "std": (0.2, 0.3, 0.4)},
    "erase": {"erase_probability": 0.9, "erase_value": 0.25},
    "cutout": {"cutout": 0.5},
}
IMAGE_SIZES = [(1, 1), (1, 9), (8, 1), (5, 7), (32, 32), (33, 20), (65, 129)]
VIEW_SIZES = [(1, 1), (3, 2), (9, 16), (32, 32), (70, 31)]


def images_of(size, dtype=torch.float32, channels=3, batch=4, seed=0):
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, channels, *size)
    if dtype is torch.uint8:
        return torch.randint(256, shape, dtype=dtype, generator=generator)
    return torch.rand(shape, dtype=dtype, generator=generator)


def kernel_of(size) -> int:
    """An odd kernel that fits into the view."""
    return min(9, 2 * min(size) - 1)


def tolerance_of(policy: AugmentPolicy) -> float:
    return HUE_TOLERANCE if policy.jitters("hue") else TOLERANCE


@pytest.mark.parametrize("view_size", VIEW_SIZES, ids=str)
@pytest.mark.parametrize("image_size", IMAGE_SIZES, ids=str)
class TestSizes:
    op = "augment"

    def test_crop_and_resize(self, implementation, image_size, view_size):
        policy = AugmentPolicy(view_size, crop_scale=(0.05, 1.0), crop_ratio=(0.3, 3.0))
        images = images_of(image_size)
        views, draws = augment(images, policy, views=8, seed=1, return_draws=True)
        assert_views(views, images, draws, policy, TOLERANCE)

    def test_the_whole_chain(self, implementation, image_size, view_size):
        policy = AugmentPolicy(
            view_size,
            crop_scale=(0.08, 1.0),
            blur_kernel=kernel_of(view_size),
            **{k: v for stage in STAGES.values() for k, v in stage.items() if k != "cutout"},
        )
        images = images_of(image_size)
        views, draws = augment(images, policy, views=3, seed=2, return_draws=True)
        # DiffAugment's contrast is not clamped: what comes before it grows up to threefold.
        assert_views(views, images, draws, policy, 3 * HUE_TOLERANCE)


@pytest.mark.parametrize("stage", STAGES)
class TestStages:
    op = "augment"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
    def test_alone(self, implementation, stage, dtype):
        policy = AugmentPolicy((19, 26), crop_scale=(0.2, 1.0), **STAGES[stage])
        images = images_of((40, 33), dtype, batch=8)
        views, draws = augment(images, policy, seed=3, return_draws=True)
        assert_views(views, images, draws, policy, tolerance_of(policy))

    def test_one_channel(self, implementation, stage):
        options = STAGES[stage] | ({"mean": (0.3,), "std": (0.2,)} if stage == "normalize" else {})
        policy = AugmentPolicy((19, 26), crop_scale=(0.2, 1.0), **options)
        images = images_of((40, 33), channels=1)
        views, draws = augment(images, policy, seed=4, return_draws=True)
        assert_views(views, images, draws, policy, TOLERANCE)

    def test_channels_last_and_odd_strides(self, implementation, stage):
        policy = AugmentPolicy((19, 26), crop_scale=(0.2, 1.0), **STAGES[stage])
        images = images_of((40, 33))
        expected = augment(images, policy, seed=5)
        last = images.contiguous(memory_format=torch.channels_last)
        for same in (last, images.transpose(2, 3).contiguous().transpose(2, 3)):
            torch.testing.assert_close(augment(same, policy, seed=5), expected, rtol=0, atol=2e-6)


@pytest.mark.parametrize("channels", [2, 4, 5, 9])
class TestManyChannels:
    op = "augment"

    def test_stages_without_colours(self, implementation, channels):
        policy = AugmentPolicy(
            (20, 17),
            crop_scale=(0.3, 1.0),
            horizontal_flip=0.5,
            rotation=40,
            blur_probability=0.5,
            solarize_probability=0.5,
            noise_probability=0.5,
            translation=0.2,
            mean=(0.5,),
            std=(0.25,),
            erase_probability=0.5,
        )
        images = images_of((24, 31), channels=channels)
        views, draws = augment(images, policy, seed=6, return_draws=True)
        assert_views(views, images, draws, policy, TOLERANCE)


RECIPES = {
    "simclr": (policies.simclr(56), (64, 64)),
    "simclr_cifar": (policies.simclr_cifar(), (32, 32)),
    "moco_v2": (policies.moco_v2(48), (75, 50)),
    "byol": (policies.byol(40)[1], (50, 75)),
    "dino, local": (policies.dino(64, 24)[-1], (65, 129)),
    "diffaugment": (policies.diffaugment(32), (32, 32)),
}


@pytest.mark.parametrize("recipe", RECIPES)
class TestRecipes:
    op = "augment"

    @pytest.mark.parametrize("dtype", [torch.float32, torch.uint8], ids=str)
    def test_recipe(self, implementation, recipe, dtype):
        policy, size = RECIPES[recipe]
        images = images_of(size, dtype, batch=16)
        views, draws = augment(images, policy, seed=7, return_draws=True)
        assert_views(views, images, draws, policy, tolerance_of(policy))


@st.composite
def compositions(draw):
    """A policy of any stages, and the size of an image for it."""
    side = st.integers(1, 40)
    size = (draw(side), draw(side))
    chosen = draw(st.lists(st.sampled_from(sorted(STAGES)), unique=True, max_size=8))
    if "cutout" in chosen and "erase" in chosen:
        chosen.remove("cutout")
    options = {k: v for stage in chosen for k, v in STAGES[stage].items()}
    low = draw(st.floats(0.01, 1.0))
    policy = AugmentPolicy(
        size,
        crop_scale=draw(st.sampled_from([None, (low, 1.0), (low, low)])),
        blur_kernel=kernel_of(size),
        **options,
    )
    return policy, (draw(side), draw(side))


class TestCompositions:
    op = "augment"

    @given(case=compositions(), seed=st.integers(0, 2**64 - 1))
    def test_any(self, implementation, case, seed):
        policy, size = case
        images = images_of(size, batch=2)
        views, draws = augment(images, policy, seed=seed, return_draws=True)
        assert_views(views, images, draws, policy, 3 * tolerance_of(policy))
