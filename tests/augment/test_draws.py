"""The draws: their definition, bit for bit, and what they depend on."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.utils.data import DataLoader, Dataset

from sslkernels import AugmentPolicy, augment, backends, policies
from sslkernels.augment import draws as definition
from tests.augment import by_hand

EVERYTHING = AugmentPolicy(
    (20, 31),
    crop_scale=(0.08, 1.0),
    crop_ratio=(0.3, 2.0),
    horizontal_flip=0.5,
    vertical_flip=0.3,
    rotation=(-30.0, 45.0),
    rotation_probability=0.7,
    brightness=0.8,
    contrast=0.8,
    saturation=0.8,
    hue=0.2,
    jitter_probability=0.8,
    grayscale=0.2,
    blur_probability=0.5,
    solarize_probability=0.4,
    solarize_threshold=0.3,
    noise_probability=0.5,
    noise_std=(0.01, 0.2),
    diff_brightness=(-0.5, 0.5),
    diff_saturation=(0.0, 2.0),
    diff_contrast=(0.5, 1.5),
    translation=0.125,
    erase_probability=0.6,
)
CUTOUT = replace(EVERYTHING, erase_probability=0.0, cutout=0.5, hue=0.0, size=(17, 8))
RECIPES = {
    "everything": EVERYTHING,
    "cutout": CUTOUT,
    "simclr": policies.simclr(),
    "wide crops of tall images": replace(EVERYTHING, crop_ratio=(3.0, 9.0)),
    "tall crops of wide images": replace(EVERYTHING, crop_ratio=(0.01, 0.2)),
    "large boxes": replace(EVERYTHING, erase_scale=(0.9, 1.0), erase_probability=1.0),
}
SIZES = [(1, 1), (7, 100), (100, 7), (37, 41), (500, 333)]


def drawn(policy, batch=50, size=(8, 8), **options) -> torch.Tensor:
    """[V, B, 32]; images of the size do not matter otherwise."""
    images = torch.zeros(batch, 3, *size, dtype=torch.uint8)
    return augment(images, policy, return_draws=True, **options)[1]


@pytest.mark.parametrize("size", SIZES, ids=str)
@pytest.mark.parametrize("recipe", RECIPES)
class TestDefinition:
    op = "augment"

    def test_by_hand(self, implementation, recipe, size):
        policy, seed, epoch = RECIPES[recipe], 2**63 + 12345, 7
        ids = torch.tensor([0, 1, 2, 3, 4, -1, 2**40 + 9, *range(100, 106)])
        rows = drawn(policy, len(ids), size, views=2, seed=seed, epoch=epoch, sample_ids=ids)
        assert rows.dtype is torch.float32
        for view, of_view in enumerate(rows):
            for sample, row in zip(ids.tolist(), of_view, strict=True):
                expected = by_hand.row(policy, seed, epoch, sample, view, *size)
                assert row.tolist() == expected, (view, sample)


@pytest.mark.parametrize("size", [(1, 1), (3, 1000), (224, 224), (333, 500)], ids=str)
def test_implementations_agree_to_the_bit(size):
    """On many rows, so that a rounding that differs once in a million would show."""
    reason = backends.why_not("augment", "cpu", torch.empty(0))
    if reason:
        pytest.skip(reason.splitlines()[0])
    ids = torch.arange(40_000) * 7919
    for policy in (EVERYTHING, CUTOUT, RECIPES["wide crops of tall images"]):
        arguments = (ids, list(policy.numbers) * 2, 99, 3, *size)
        assert torch.equal(
            torch.ops.sslkernels.augment_draws(*arguments),
            torch.ops.sslkernels_chunked.augment_draws(*arguments),
        )


class TestNoise:
    op = "augment"

    @pytest.mark.parametrize("channels", [1, 3, 9])
    def test_by_hand(self, implementation, channels):
        policy = AugmentPolicy((4, 21), noise_probability=1.0, noise_std=0.01)
        images = torch.full((3, channels, 4, 21), 0.5)
        views, rows = augment(images, policy, seed=8, return_draws=True)
        for view, of_view in zip(views, rows.tolist(), strict=True):
            for x, row in zip(view, of_view, strict=True):
                keys = (int(row[29]), int(row[30]))
                expected = [
                    [by_hand.noise(keys, c, pixel) for pixel in range(84)] for c in range(channels)
                ]
                found = (x.double() - 0.5).flatten(1) / row[19]
                torch.testing.assert_close(
                    found, torch.tensor(expected).double(), rtol=0, atol=2e-5
                )


class TestWhatMatters:
    op = "augment"

    def test_any_split_and_order_of_the_batch(self, implementation):
        ids = torch.arange(50) * 3
        rows = drawn(EVERYTHING, seed=1, sample_ids=ids)
        for some in (torch.tensor([4]), torch.tensor([8, 0, 3]), torch.randperm(50)):
            again = drawn(EVERYTHING, len(some), seed=1, sample_ids=ids[some])
            assert torch.equal(again, rows[:, some])

    def test_number_of_views_does_not_matter(self, implementation):
        rows = drawn(EVERYTHING, seed=1, views=5)
        assert torch.equal(drawn(EVERYTHING, seed=1, views=2), rows[:2])
        pair = drawn((EVERYTHING, CUTOUT), seed=1)
        assert torch.equal(pair[0], rows[0])
        assert torch.equal(pair[1], drawn(CUTOUT, seed=1, views=2)[1])

    def test_samples_are_numbered_by_default(self, implementation):
        expected = drawn(EVERYTHING, seed=1, sample_ids=torch.arange(50).int())
        assert torch.equal(drawn(EVERYTHING, seed=1), expected)

    def test_every_bit_of_seed_epoch_and_sample_matters(self, implementation):
        rows = [drawn(EVERYTHING, 1, seed=0)[0, 0]]
        for bit in range(64):
            power = torch.tensor([2**bit if bit < 63 else -(2**63)])
            rows += [drawn(EVERYTHING, 1, seed=0, sample_ids=power)[0, 0]]
            rows += [drawn(EVERYTHING, 1, seed=2**bit)[0, 0]]
        rows += [drawn(EVERYTHING, 1, seed=0, epoch=2**bit)[0, 0] for bit in range(24)]
        rows += drawn(EVERYTHING, 1, seed=0, views=40)[1:, 0]
        assert len({tuple(row.tolist()) for row in rows}) == 1 + 64 + 64 + 24 + 39

    def test_threads_do_not_matter(self, implementation):
        threads = torch.get_num_threads()
        expected = drawn(EVERYTHING, 500, seed=5)
        torch.set_num_threads(1)
        try:
            assert torch.equal(drawn(EVERYTHING, 500, seed=5), expected)
        finally:
            torch.set_num_threads(threads)

    def test_replay(self, implementation):
        images = torch.rand(6, 3, 30, 40, generator=torch.Generator().manual_seed(0))
        views, rows = augment(images, EVERYTHING, seed=3, return_draws=True)
        assert torch.equal(augment(images, EVERYTHING, draws=rows), views)
        swapped = augment(images, EVERYTHING, draws=rows.flip(0))
        assert torch.equal(swapped, views.flip(0))


class _Images(Dataset):
    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> torch.Tensor:
        image = torch.full((1, 3, 8, 8), 20 * index, dtype=torch.uint8)
        ids = torch.tensor([index])
        return augment(image, EVERYTHING, seed=4, sample_ids=ids, return_draws=True)[1][:, 0]


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers(workers):
    loader = DataLoader(_Images(), batch_size=4, num_workers=workers)
    assert torch.equal(torch.cat(list(loader)).transpose(0, 1), drawn(EVERYTHING, 10, seed=4))


@given(x=st.floats(-16, 16, width=32))
def test_power_of_two(x):
    value = definition.exp2(torch.tensor(x, dtype=torch.float64)).item()
    assert value == pytest.approx(2.0**x, rel=2e-7)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("recipe", RECIPES)
def test_cuda_draws_what_the_cpu_draws(recipe):
    numbers = list(RECIPES[recipe].numbers) * 2
    ids = torch.arange(10_000)
    expected = definition.draw(ids, numbers, 5, 1, 100, 131)
    assert torch.equal(definition.draw(ids.cuda(), numbers, 5, 1, 100, 131).cpu(), expected)
