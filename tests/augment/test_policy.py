"""AugmentPolicy: bad fields, forms of good ones, dictionaries, and the policies of methods."""

from __future__ import annotations

import dataclasses
import json
import pickle

import pytest
import torch

from sslkernels import AugmentPolicy, policies
from sslkernels.augment.layout import Stage

NAN, INFINITY = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": 0}, r"size must lie in \[1, 32768\], got 0"),
        ({"size": (8, -1)}, "size must lie in"),
        ({"crop_scale": (0.0, 1.0)}, r"crop_scale must be low <= high, .*got \(0, 1\)"),
        ({"crop_scale": (0.5, 0.2)}, r"crop_scale must be low <= high, .*got \(0.5, 0.2\)"),
        ({"crop_scale": (0.5, 1.2)}, r"crop_scale must be .* \(0, 1\], got \(0.5, 1.2\)"),
        ({"crop_scale": (NAN, 1.0)}, r"crop_scale must be .*, got \(nan, 1\)"),
        ({"crop_ratio": (2.0, 1.0)}, r"crop_ratio must be low <= high, .*got \(2, 1\)"),
        ({"crop_ratio": (0.0, 1.0)}, "crop_ratio must be"),
        ({"crop_ratio": (1.0, INFINITY)}, "crop_ratio must be"),
        ({"horizontal_flip": 1.1}, r"horizontal_flip must be in \[0.0, 1.0\], got 1.1"),
        ({"vertical_flip": -0.1}, r"vertical_flip must be in \[0.0, 1.0\], got -0.1"),
        ({"rotation_probability": NAN}, "rotation_probability must be in .*, got nan"),
        ({"jitter_probability": 2}, "jitter_probability must be in"),
        ({"grayscale": -1}, "grayscale must be in"),
        ({"blur_probability": 1.5}, "blur_probability must be in"),
        ({"solarize_probability": 1.5}, "solarize_probability must be in"),
        ({"noise_probability": 1.5}, "noise_probability must be in"),
        ({"erase_probability": 1.5}, "erase_probability must be in"),
        ({"solarize_threshold": 128}, r"solarize_threshold must be in \[0.0, 1.0\], got 128"),
        ({"translation": 1.5}, "translation must be in"),
        ({"cutout": -0.5}, "cutout must be in"),
        ({"rotation": -30.0}, "rotation must be at least 0 and finite, got -30"),
        ({"rotation": (0, 361)}, r"rotation must be .* \[-360, 360\], got \(0, 361\)"),
        ({"brightness": -0.4}, "brightness must be at least 0 and finite, got -0.4"),
        ({"contrast": (-0.4, 1.0)}, r"contrast must be .*\[0, inf\], got \(-0.4, 1\)"),
        ({"saturation": (1.0, INFINITY)}, "saturation must be"),
        ({"hue": 0.6}, r"hue must be .*\[-0.5, 0.5\], got \(-0.6, 0.6\)"),
        ({"blur_sigma": (-0.1, 2.0)}, r"blur_sigma must be .*\(0, inf\], got \(-0.1, 2\)"),
        ({"blur_sigma": 0.0}, "blur_sigma must be"),
        ({"blur_kernel": 4}, "blur_kernel must be odd and positive, got 4"),
        ({"blur_kernel": -3}, "blur_kernel must be odd and positive, got -3"),
        ({"size": (9, 4), "blur_probability": 0.5, "blur_kernel": 9},
         r"blur_kernel must be at most 7 for size \(9, 4\), got 9"),
        ({"size": 1, "blur_probability": 0.5}, "blur_kernel must be at most 1 .*got 3"),
        ({"noise_std": -0.1}, "noise_std must be"),
        ({"diff_brightness": (NAN, 0.0)}, "diff_brightness must be"),
        ({"diff_saturation": (2.0, 1.0)}, "diff_saturation must be"),
        ({"mean": (0.5,)}, "mean and std must be given together, std is None"),
        ({"std": (0.5,)}, "mean and std must be given together, mean is None"),
        ({"mean": (0.5,), "std": (0.5, 0.5)}, "std must be as long as mean, 1, got 2"),
        ({"mean": (0.5,), "std": (0.0,)}, r"std must be positive, got \(0.0,\)"),
        ({"mean": (NAN,), "std": (1.0,)}, "mean must be"),
        ({"erase_scale": (0.5, 1.5)}, "erase_scale must be"),
        ({"erase_ratio": (0.0, 1.5)}, "erase_ratio must be"),
        ({"erase_value": INFINITY}, "erase_value must be"),
        ({"cutout": 0.5, "erase_probability": 0.5}, "cutout must be 0 where erase_probability"),
    ],
)  # fmt: skip
def test_values(fields, message):
    with pytest.raises(ValueError, match="^AugmentPolicy: " + message):
        AugmentPolicy(**{"size": 32} | fields)


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"size": "32"}, r"size must be an int or \(height, width\), got '32'"),
        ({"size": (1, 2, 3)}, "size must be"),
        ({"size": (8.0, 8)}, "size must hold ints, got float"),
        ({"size": True}, "size must hold ints, got bool"),
        ({"crop_scale": 0.5}, r"crop_scale must be a pair \(low, high\), got 0.5"),
        ({"crop_ratio": (1.0,)}, r"crop_ratio must be a pair \(low, high\), got \(1.0,\)"),
        ({"crop_ratio": ("a", "b")}, "crop_ratio must hold floats, got str"),
        ({"hue": "red"}, r"hue must be a pair \(low, high\) or a float, got 'red'"),
        ({"grayscale": None}, "grayscale must be a float, got NoneType"),
        ({"horizontal_flip": True}, "horizontal_flip must be a float, got bool"),
        ({"blur_kernel": 3.0}, "blur_kernel must be an int, got float"),
        ({"mean": 0.5, "std": 0.5}, "mean must be a tuple of floats, got 0.5"),
        ({"mean": (), "std": ()}, r"mean must be a tuple of floats, got \(\)"),
        ({"dtype": torch.int32}, "dtype must be a floating torch.dtype, got torch.int32"),
        ({"dtype": "float32"}, "dtype must be a floating torch.dtype, got 'float32'"),
        ({"channels_last": 1}, "channels_last must be a bool, got int"),
    ],
)
def test_types(fields, message):
    with pytest.raises(TypeError, match="^AugmentPolicy: " + message):
        AugmentPolicy(**{"size": 32} | fields)


def test_forms_of_one_value():
    left = AugmentPolicy(
        32, crop_scale=[0.1, 1], brightness=0.4, contrast=2, hue=0.1, rotation=30, noise_std=0.1
    )
    right = AugmentPolicy(
        (32, 32),
        crop_scale=(0.1, 1.0),
        brightness=(0.6, 1.4),
        contrast=(0.0, 3.0),
        hue=(-0.1, 0.1),
        rotation=(-30.0, 30.0),
        noise_std=(0.1, 0.1),
    )
    assert left == right and hash(left) == hash(right)
    assert left != dataclasses.replace(left, grayscale=0.1)


@pytest.mark.parametrize(("size", "kernel"), [(224, 23), (96, 9), (32, 3), (8, 3), ((64, 300), 7)])
def test_default_kernel(size, kernel):
    assert AugmentPolicy(size).blur_kernel == kernel


ALL = {
    "simclr": policies.simclr(),
    "simclr_cifar": policies.simclr_cifar(),
    "moco_v2": policies.moco_v2(96),
    "byol": policies.byol()[1],
    "dino": policies.dino()[-1],
    "diffaugment": policies.diffaugment(32),
    "half": AugmentPolicy((3, 4), dtype=torch.float16, channels_last=True),
}


@pytest.mark.parametrize("policy", ALL.values(), ids=ALL)
class TestTravel:
    def test_json(self, policy):
        assert AugmentPolicy.from_dict(json.loads(json.dumps(policy.to_dict()))) == policy

    def test_pickle(self, policy):
        again = pickle.loads(pickle.dumps(policy))
        assert again == policy and again.numbers == policy.numbers

    def test_repr_is_the_call(self, policy):
        assert eval(repr(policy), {"AugmentPolicy": AugmentPolicy, "torch": torch}) == policy

    def test_frozen(self, policy):
        with pytest.raises(dataclasses.FrozenInstanceError):
            policy.size = 3


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 3, "blurr": 1}, "'blurr' is no field"),
        ({}, "size must be given"),
        ({"size": 3, "dtype": "int8"}, "dtype must be one of float64, .*, got 'int8'"),
        ({"size": 3, "hue": [0.3, 0.1]}, "hue must be low <= high"),
    ],
)
def test_bad_dictionaries(values, message):
    with pytest.raises(ValueError, match="^AugmentPolicy: " + message):
        AugmentPolicy.from_dict(values)


def test_stages():
    assert AugmentPolicy(8, crop_scale=(0.1, 1.0), horizontal_flip=0.5).stages == Stage(0)
    assert policies.simclr().stages == Stage.COLOUR | Stage.GRAYSCALE | Stage.BLUR
    diff = Stage.DIFF_COLOUR | Stage.TRANSLATION | Stage.ERASE
    assert policies.diffaugment(8).stages == diff
    assert policies.diffaugment(8, colour=False, cutout=0.0).stages == Stage.TRANSLATION
    # Nothing can come of any of these.
    assert AugmentPolicy(8, rotation=30, rotation_probability=0.0).stages == Stage(0)
    assert AugmentPolicy(8, brightness=0.4, jitter_probability=0.0).stages == Stage(0)


def test_views_of_methods():
    first, second = policies.byol()
    assert (first.blur_probability, second.blur_probability) == (1.0, 0.1)
    assert (first.solarize_probability, second.solarize_probability) == (0.0, 0.2)
    views = policies.dino(224, 96, local_views=6)
    assert [view.size for view in views] == [(224, 224)] * 2 + [(96, 96)] * 6
    assert views[2].blur_kernel == 9
    with pytest.raises(ValueError, match=r"^dino: local_views must be at least 0, got -1"):
        policies.dino(local_views=-1)
