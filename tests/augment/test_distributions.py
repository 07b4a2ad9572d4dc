"""Every draw has the distribution that its policy says, by tests of Kolmogorov and Smirnov."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sslkernels import AugmentPolicy
from sslkernels.augment.colour import normals
from sslkernels.augment.draws import draw
from sslkernels.augment.layout import Slot

COUNT = 20_000
# A right program exceeds these for one seed in a million; the seeds are fixed.
SIGMAS = 4.9
KS_LIMIT = 2.7


def rows(policy: AugmentPolicy, height: int = 240, width: int = 320, seed: int = 0) -> Tensor:
    return draw(torch.arange(COUNT), policy.numbers, seed, 0, height, width)[0].double()


def assert_uniform(values: Tensor, low: float, high: float) -> None:
    """Kolmogorov-Smirnov distance from the uniform distribution on [low, high]."""
    n = values.numel()
    ordered = ((values - low) / (high - low)).sort().values
    assert n > 1000 and ordered[0] >= -1e-6 and ordered[-1] <= 1 + 1e-6
    above = torch.arange(1, n + 1) / n - ordered
    below = ordered - torch.arange(n) / n
    assert max(above.max(), below.max()).item() * math.sqrt(n) < KS_LIMIT


def assert_counts(values: Tensor, probabilities: dict[float, float]) -> None:
    """Every value about as often as it should be, and no other."""
    n = values.numel()
    assert set(values.tolist()) <= set(probabilities)
    for value, p in probabilities.items():
        found = (values == value).sum().item()
        assert abs(found - n * p) <= SIGMAS * math.sqrt(n * p * (1 - p)), (value, found / n)


def assert_independent(*columns: Tensor) -> None:
    """No correlation of ranks."""
    ranks = torch.stack([c.argsort().argsort().double() for c in columns])
    correlation = torch.corrcoef(ranks) - torch.eye(len(columns))
    assert correlation.abs().max() * math.sqrt(COUNT) < SIGMAS


class TestCrop:
    def test_area_and_ratio_where_every_attempt_fits(self):
        policy = AugmentPolicy(32, crop_scale=(0.05, 0.3), crop_ratio=(0.5, 2.0))
        drawn = rows(policy, 2000, 2000)
        area = drawn[:, Slot.HEIGHT] * drawn[:, Slot.WIDTH] / 2000**2
        ratio = torch.log2(drawn[:, Slot.WIDTH] / drawn[:, Slot.HEIGHT])
        assert_uniform(area.clamp(0.05, 0.3), 0.05, 0.3)
        assert_uniform(ratio.clamp(-1, 1), -1, 1)
        room = 2000 - drawn[:, Slot.HEIGHT : Slot.WIDTH + 1]
        place = drawn[:, Slot.TOP : Slot.LEFT + 1] / room
        assert_independent(area, ratio, place[:, 0], place[:, 1])

    def test_place(self):
        policy = AugmentPolicy(32, crop_scale=(0.25, 0.25), crop_ratio=(1.0, 1.0))
        drawn = rows(policy, 20, 40)
        assert (drawn[:, Slot.HEIGHT] == 14).all() and (drawn[:, Slot.WIDTH] == 14).all()
        assert_counts(drawn[:, Slot.TOP], dict.fromkeys(range(7), 1 / 7))
        assert_counts(drawn[:, Slot.LEFT], dict.fromkeys(range(27), 1 / 27))

    @pytest.mark.parametrize("size", [(240, 320), (32, 32), (100, 30)], ids=str)
    def test_same_boxes_as_torchvision(self, size):
        """Two samples, ours and theirs, for scales that reject many attempts."""
        transforms = pytest.importorskip("torchvision.transforms.v2")
        scale, ratio = (0.08, 1.0), (3 / 4, 4 / 3)
        crop = transforms.RandomResizedCrop(8, scale, ratio)
        torch.manual_seed(0)
        image = torch.empty(1, *size)
        theirs = [crop.make_params([image]) for _ in range(COUNT // 2)]
        drawn = rows(AugmentPolicy(8, crop_scale=scale, crop_ratio=ratio), *size)
        for slot, name in enumerate(("top", "left", "height", "width")):
            other = torch.tensor([float(p[name]) for p in theirs])
            edges = torch.unique(other)
            n, m = COUNT, other.numel()
            gap = (
                torch.searchsorted(drawn[:, slot].sort().values, edges.double(), right=True) / n
                - torch.searchsorted(other.sort().values, edges, right=True) / m
            )
            assert gap.abs().max() * math.sqrt(n * m / (n + m)) < KS_LIMIT, name

    def test_the_middle_where_nothing_fits(self):
        drawn = rows(AugmentPolicy(8, crop_scale=(1.0, 1.0), crop_ratio=(2.0, 3.0)), 60, 50)
        assert (drawn[:, :4] == torch.tensor([17.0, 0.0, 25.0, 50.0])).all()


class TestChoices:
    def test_probabilities(self):
        policy = AugmentPolicy(
            32,
            horizontal_flip=0.3,
            vertical_flip=0.6,
            grayscale=0.2,
            solarize_probability=0.7,
            solarize_threshold=0.25,
        )
        drawn = rows(policy)
        assert_counts(drawn[:, Slot.HORIZONTAL_FLIP], {0: 0.7, 1: 0.3})
        assert_counts(drawn[:, Slot.VERTICAL_FLIP], {0: 0.4, 1: 0.6})
        assert_counts(drawn[:, Slot.GRAYSCALE], {0: 0.8, 1: 0.2})
        assert_counts(drawn[:, Slot.SOLARIZE], {0.25: 0.7, 2: 0.3})

    @pytest.mark.parametrize("probability", [0.0, 1.0])
    def test_never_and_always(self, probability):
        names = ("horizontal_flip", "vertical_flip", "grayscale", "solarize_probability")
        drawn = rows(AugmentPolicy(32, **dict.fromkeys(names, probability)))
        for slot in (Slot.HORIZONTAL_FLIP, Slot.VERTICAL_FLIP, Slot.GRAYSCALE):
            assert (drawn[:, slot] == probability).all()
        assert (drawn[:, Slot.SOLARIZE] == (0.5 if probability else 2.0)).all()

    def test_orders_are_equally_likely(self):
        policy = AugmentPolicy(32, brightness=0.1, contrast=0.1, saturation=0.1, hue=0.1)
        order = rows(policy)[:, Slot.ORDER : Slot.ORDER + 4]
        number = (order * torch.tensor([1.0, 10.0, 100.0, 1000.0])).sum(1)
        assert number.unique().numel() == 24
        assert_counts(number, dict.fromkeys(number.unique().tolist(), 1 / 24))

    def test_jitter_is_all_or_nothing_and_leaves_out_what_changes_nothing(self):
        drawn = rows(AugmentPolicy(32, brightness=0.1, hue=0.1, jitter_probability=0.8))
        order = drawn[:, Slot.ORDER : Slot.ORDER + 4].sort(1).values
        kinds = {(-1, -1, -1, -1): 0.2, (-1, -1, 0, 3): 0.8}
        for kind, p in kinds.items():
            same = (order == torch.tensor(kind)).all(1).double()
            assert_counts(same, {0: 1 - p, 1: p})


class TestRanges:
    @pytest.mark.parametrize(
        ("options", "slot", "low", "high"),
        [
            ({"brightness": 0.8}, Slot.BRIGHTNESS, 0.2, 1.8),
            ({"contrast": (0.5, 3.0)}, Slot.CONTRAST, 0.5, 3.0),
            ({"saturation": 1.5}, Slot.SATURATION, 0.0, 2.5),
            ({"hue": (-0.1, 0.4)}, Slot.HUE, -0.1, 0.4),
            ({"diff_brightness": (-0.5, 0.5)}, Slot.DIFF_BRIGHTNESS, -0.5, 0.5),
            ({"diff_saturation": (0.0, 2.0)}, Slot.DIFF_SATURATION, 0.0, 2.0),
            ({"diff_contrast": (0.5, 1.5)}, Slot.DIFF_CONTRAST, 0.5, 1.5),
            ({"rotation": 30.0}, Slot.ROTATION, -30.0, 30.0),
            ({"blur_probability": 1.0}, Slot.BLUR_SIGMA, 0.1, 2.0),
            ({"noise_probability": 1.0, "noise_std": (0.1, 0.4)}, Slot.NOISE, 0.1, 0.4),
        ],
    )
    def test_uniform(self, options, slot, low, high):
        assert_uniform(rows(AugmentPolicy(32, **options))[:, slot], low, high)

    @pytest.mark.parametrize(
        ("probability", "options", "slot"),
        [
            ("rotation_probability", {"rotation": (10.0, 20.0)}, Slot.ROTATION),
            ("blur_probability", {"blur_sigma": (10.0, 20.0)}, Slot.BLUR_SIGMA),
            ("noise_probability", {"noise_std": (10.0, 20.0)}, Slot.NOISE),
        ],
    )
    def test_at_times(self, probability, options, slot):
        drawn = rows(AugmentPolicy(32, **options, **{probability: 0.3}))[:, slot]
        assert_counts((drawn != 0).double(), {0: 0.7, 1: 0.3})
        assert_uniform(drawn[drawn != 0], 10.0, 20.0)

    def test_translation(self):
        drawn = rows(AugmentPolicy((16, 40), translation=0.125))
        assert_counts(drawn[:, Slot.DOWN], dict.fromkeys(range(-2, 3), 1 / 5))
        assert_counts(drawn[:, Slot.RIGHT], dict.fromkeys(range(-5, 6), 1 / 11))

    def test_everything_is_independent(self):
        policy = AugmentPolicy(
            32,
            brightness=0.5,
            contrast=0.5,
            saturation=0.5,
            hue=0.5,
            rotation=90,
            blur_probability=1.0,
            noise_probability=1.0,
            noise_std=(0.1, 0.2),
            diff_brightness=(0.0, 1.0),
            diff_saturation=(0.0, 1.0),
            diff_contrast=(0.0, 1.0),
        )
        first, second = draw(torch.arange(COUNT), policy.numbers * 2, 0, 0, 50, 50).double()
        other_epoch = draw(torch.arange(COUNT), policy.numbers, 0, 1, 50, 50)[0].double()
        slots = [6, *range(12, 16), 17, 19, *range(26, 31)]
        columns = [x[:, slot] for x in (first, second, other_epoch) for slot in slots]
        assert_independent(*columns)


class TestErasing:
    def test_area_and_ratio(self):
        policy = AugmentPolicy(2000, erase_probability=0.5, erase_scale=(0.05, 0.2))
        drawn = rows(policy)
        height, width = drawn[:, Slot.ERASE_HEIGHT], drawn[:, Slot.ERASE_WIDTH]
        assert_counts((height > 0).double(), {0: 0.5, 1: 0.5})
        some = height > 0
        area = (height * width)[some] / 2000**2
        logarithm = torch.log(height / width)[some]
        assert_uniform(area.clamp(0.05, 0.2), 0.05, 0.2)
        low, high = math.log(0.3), math.log(3.3)
        assert_uniform(logarithm.clamp(low, high), low, high)
        room = 2001 - torch.stack([height, width], 1)[some]
        place = drawn[:, Slot.ERASE_TOP : Slot.ERASE_TOP + 2][some]
        assert (place + 1 <= room).all()
        for i in range(2):
            assert_uniform((place / (room - 1))[:, i], 0.0, 1.0)

    def test_cutout(self):
        drawn = rows(AugmentPolicy((8, 9), cutout=0.5))
        # An even side of 4 around one of 9 places, an odd side of 5 around one of 9.
        vertical = [(max(c - 2, 0), min(c + 2, 8)) for c in range(9)]
        horizontal = [(max(c - 2, 0), min(c + 3, 9)) for c in range(9)]
        for i, boxes in enumerate((vertical, horizontal)):
            begin, length = drawn[:, Slot.ERASE_TOP + i], drawn[:, Slot.ERASE_HEIGHT + i]
            expected: dict[float, float] = {}
            for low, high in boxes:
                expected[100 * low + high] = expected.get(100 * low + high, 0) + 1 / 9
            assert_counts(100 * begin + begin + length, expected)


def test_noise_is_normal_and_independent():
    keys = torch.arange(1, 101)[:, None] * torch.tensor([[7, 1000]])
    noise = normals(keys, torch.Size((5, 15, 20)), torch.float64)
    for channel in range(5):
        assert_uniform(torch.special.ndtr(noise[:, channel].flatten()), 0.0, 1.0)
    n = noise[:, 0].numel()
    correlation = torch.corrcoef(noise.transpose(0, 1).flatten(1)) - torch.eye(5)
    assert correlation.abs().max() * math.sqrt(n) < SIGMAS
    for shifted in (noise[:, :, 1:] * noise[:, :, :-1], noise[1:] * noise[:-1]):
        assert abs(shifted.mean()) * math.sqrt(shifted.numel()) < SIGMAS
