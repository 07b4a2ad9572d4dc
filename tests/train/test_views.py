from __future__ import annotations

import sys

import pytest
import torch

from sslkernels import AugmentPolicy
from sslkernels.train import by_torchvision
from sslkernels.train.errors import TrainError
from sslkernels.train.registry import METHODS
from sslkernels.train.views import Augment, Views, small, tiny_grey, uniform

makers = pytest.mark.parametrize("augment", list(Augment))

# Policies under which nothing is random, for images of 12 x 12.
STILL = {
    "resize": AugmentPolicy((9, 15)),
    "crop of everything": AugmentPolicy(20, crop_scale=(1.0, 1.0), crop_ratio=(1.0, 1.0)),
    "flips": AugmentPolicy(12, horizontal_flip=1.0, vertical_flip=1.0),
    "rotation": AugmentPolicy(12, rotation=(25.0, 25.0)),
    "brightness": AugmentPolicy(12, brightness=(1.3, 1.3)),
    "contrast": AugmentPolicy(12, contrast=(0.6, 0.6)),
    "saturation": AugmentPolicy(12, saturation=(1.7, 1.7)),
    "hue": AugmentPolicy(12, hue=(0.2, 0.2)),
    "grayscale": AugmentPolicy(12, grayscale=1.0),
    "blur": AugmentPolicy(12, blur_probability=1.0, blur_kernel=5, blur_sigma=1.2),
    "solarize": AugmentPolicy(12, solarize_probability=1.0, solarize_threshold=0.3001),
    "statistics": AugmentPolicy(12, mean=(0.4, 0.5, 0.6), std=(0.2, 0.3, 0.4)),
    "all": AugmentPolicy(
        (10, 14),
        horizontal_flip=1.0,
        rotation=(-10.0, -10.0),
        contrast=(1.4, 1.4),
        blur_probability=1.0,
        blur_sigma=0.7,
        solarize_probability=1.0,
        solarize_threshold=0.9999,
        mean=(0.4, 0.5, 0.6),
        std=(0.2, 0.3, 0.4),
    ),
}


@pytest.fixture
def colour() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (6, 3, 12, 12), generator=generator, dtype=torch.uint8)


def views(images: torch.Tensor, seed: int, augment: Augment) -> Views:
    return Views(images, tiny_grey((8, 8)), seed=seed, augment=augment)


@pytest.mark.parametrize("policy", STILL.values(), ids=STILL.keys())
def test_both_do_the_same_where_nothing_is_random(colour, policy):
    index = torch.tensor([4, 0, 5])
    ours, theirs = (
        Views(colour, policy, seed=0, augment=augment).batch(index, 0) for augment in Augment
    )
    assert ours.shape == (2, 3, 3, *policy.size)
    assert ours.dtype is theirs.dtype is torch.float32
    assert not torch.equal(ours[:, 0], ours[:, 1])
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4 if policy.hue[0] else 2e-5)


@makers
def test_a_view_depends_on_seed_epoch_and_number_alone(images, augment):
    index = torch.tensor([7, 3, 100, 41])
    whole = views(images, 5, augment).batch(index, 2)
    torch.manual_seed(1)
    parts = [views(images, 5, augment).batch(part, 2) for part in index.flip(0).split([1, 3])]
    assert torch.equal(torch.cat(parts, dim=1).flip(1), whole)
    for other in (
        views(images, 5, augment).batch(index, 3),
        views(images, 6, augment).batch(index, 2),
    ):
        assert (other != whole).flatten(2).any(2).all()
    assert (whole[0] != whole[1]).flatten(1).any(1).all()


@makers
def test_nobody_elses_draws_change(images, augment):
    state = torch.get_rng_state()
    views(images, 0, augment).batch(torch.arange(3), 0)
    assert torch.equal(torch.get_rng_state(), state)


def test_both_draw_alike(images):
    """Means of pixels, and of how far views are from each other, over 2 x 718 views."""
    index = torch.arange(718)
    ours, theirs = (views(images, 0, augment).batch(index, 0) for augment in Augment)
    for measure in (
        lambda v: v.mean((0, 2, 3, 4)),
        lambda v: v.std((2, 3, 4)).mean(0),
        lambda v: (v[0] - v[1]).abs().mean((1, 2, 3)),
    ):
        # Paired by image, most of what differs between images is gone.
        difference = measure(ours) - measure(theirs)
        error = difference.std() / len(index) ** 0.5
        assert difference.mean().abs() < 4 * error


@pytest.mark.parametrize(
    ("name", "policy"),
    [
        ("translation", AugmentPolicy(8, translation=0.1)),
        ("cutout", AugmentPolicy(8, cutout=0.5)),
        ("noise_std", AugmentPolicy(8, noise_probability=1.0, noise_std=(0.1, 0.2))),
        ("diff_contrast", AugmentPolicy(8, diff_contrast=(0.5, 1.5))),
    ],
)
def test_what_torchvision_cannot_do_is_named(name, policy):
    with pytest.raises(ValueError, match=f"torchvision has no transform for .*{name}"):
        by_torchvision.transform(policy)


def test_torchvision_that_is_not_installed(images, monkeypatch):
    monkeypatch.setitem(sys.modules, "torchvision.transforms.v2", None)
    with pytest.raises(
        TrainError, match="--augment torchvision needs torchvision: pip install torchvision"
    ):
        views(images, 0, Augment.torchvision)


def test_numbers_depend_on_seed_epoch_and_number_alone():
    ids = torch.arange(50)
    every = uniform(3, 7, ids, 6)
    assert every.shape == (50, 6) and every.min() >= 0 and every.max() < 1
    assert torch.equal(uniform(3, 7, ids[[4, 40]], 6), every[[4, 40]])
    assert torch.equal(uniform(3, 7, ids, 5), every[:, :5])
    for other in (uniform(4, 7, ids, 6), uniform(3, 8, ids, 6), uniform(3, 7, ids + 50, 6)):
        assert (other != every).all(1).all()
    # 300 numbers; their mean has a standard error of 0.017.
    assert every.mean().item() == pytest.approx(0.5, abs=0.08)


def test_grey_images_are_not_mirrored_and_tiny_ones_are_cropped_least() -> None:
    least = {}
    for side in (8, 28):
        policy = small((1, side, side))
        assert policy.horizontal_flip == policy.vertical_flip == 0  # a digit would be another
        assert policy.crop_scale is not None
        least[side] = policy.crop_scale[0]
    assert 8 * least[8] ** 0.5 > 6 and least[28] < least[8]
    assert small((3, 28, 28)).horizontal_flip > 0


@pytest.mark.parametrize("method", ["simclr", "gan", "finetune"])
def test_views_are_mirrored_on_request(method: str) -> None:
    entry = METHODS[method]
    own = {name: parameter.default for name, parameter in entry.own.items()}
    for flip in (False, True):
        options = entry.family.options(data="digits", flip=flip)
        task = entry.family.build(entry.method, options, dict(own))
        assert task.identity["flip"] is flip  # a run is not resumed with other views
        views = task.data if isinstance(task.data, Views) else task.data.views
        assert {one.horizontal_flip for one in views.policies} == {0.5 * flip}
