from __future__ import annotations

import torch

from sslkernels.train.augment import Policy, apply, draw, two_views

STILL = Policy(rotation=0, scale=(1, 1), shear=0, shift=0, brightness=0, noise=0)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_a_policy_that_allows_nothing_gives_the_image_back(images):
    batch = images[:5]
    views = two_views(batch, STILL, seeded())
    torch.testing.assert_close(views, torch.cat([batch, batch]), atol=1e-6, rtol=0)


def test_same_seed_same_views(images):
    batch = images[:5]
    views = two_views(batch, Policy(), seeded())
    assert torch.equal(views, two_views(batch, Policy(), seeded()))
    assert not torch.equal(views, two_views(batch, Policy(), seeded(1)))


def test_views_differ_from_each_other_and_stay_in_range(images):
    first, second = two_views(images[:64], Policy(), seeded()).chunk(2)
    assert (first - second).abs().mean() > 0.05
    assert first.min() >= 0 and first.max() <= 1


def test_a_shift_moves_the_image_and_leaves_black_behind():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 3, 4] = 1
    draws = draw(STILL, image.shape, seeded())
    draws.affine[0, 0, 2] = 2 * 1 / 8  # look one pixel to the right: the image moves to the left
    moved = apply(image, draws, noise=0)
    torch.testing.assert_close(moved, image.roll(-1, dims=3), atol=1e-6, rtol=0)
    draws.affine[0, 0, 2] = 2
    assert apply(image, draws, noise=0).abs().max() == 0


def test_a_rotation_keeps_the_shape_of_the_image():
    image = torch.zeros(1, 1, 8, 8)
    image[0, 0, 2, 1] = 1
    policy = Policy(rotation=90, scale=(1, 1), shear=0, shift=0, brightness=0, noise=0)
    draws = draw(policy, image.shape, seeded())
    # Its linear part is orthogonal with determinant 1.
    linear = draws.affine[0, :, :2]
    torch.testing.assert_close(linear @ linear.T, torch.eye(2))
    assert linear.det() > 0
