"""A policy in the form that the operators take: see `layout.Number` and `layout.Stage`."""

from __future__ import annotations

import math
import struct
from typing import TYPE_CHECKING

from sslkernels.augment.layout import NUMBERS, Number, Stage
from sslkernels.philox import threshold

if TYPE_CHECKING:
    from sslkernels.augment.policy import AugmentPolicy, Range

JITTER = {"brightness": 1.0, "contrast": 1.0, "saturation": 1.0, "hue": 0.0}
"""The operations of colour jitter, in the order of their numbers, and what changes nothing."""


def stages(policy: AugmentPolicy) -> Stage:
    """What may happen under this policy, crop, resize and flips aside."""
    diff = (policy.diff_brightness, policy.diff_saturation, policy.diff_contrast)
    happens = {
        Stage.ROTATION: policy.rotation_probability > 0 and policy.rotation != (0.0, 0.0),
        Stage.COLOUR: policy.jitter_probability > 0 and any(map(policy.jitters, JITTER)),
        Stage.GRAYSCALE: policy.grayscale > 0,
        Stage.BLUR: policy.blur_probability > 0,
        Stage.SOLARIZE: policy.solarize_probability > 0,
        Stage.NOISE: policy.noise_probability > 0,
        Stage.DIFF_COLOUR: diff != ((0.0, 0.0), (1.0, 1.0), (1.0, 1.0)),
        Stage.TRANSLATION: policy.translation > 0,
        Stage.ERASE: policy.erase_probability > 0 or policy.cutout > 0,
    }
    return Stage(sum(stage for stage, may in happens.items() if may))


def pack(policy: AugmentPolicy) -> tuple[float, ...]:
    """The policy as `layout.Number` says."""
    values: dict[Number, float] = {
        Number.HEIGHT: policy.height,
        Number.WIDTH: policy.width,
        Number.CROP: policy.crop_scale is not None,
        Number.CROP_RATIO_LOW: _float32(policy.crop_ratio[0]),
        Number.CROP_RATIO_HIGH: _float32(policy.crop_ratio[1]),
        Number.HORIZONTAL_FLIP_BELOW: threshold(policy.horizontal_flip),
        Number.VERTICAL_FLIP_BELOW: threshold(policy.vertical_flip),
        Number.ROTATION_BELOW: threshold(policy.rotation_probability),
        Number.JITTER_BELOW: threshold(policy.jitter_probability),
        Number.GRAYSCALE_BELOW: threshold(policy.grayscale),
        Number.BLUR_BELOW: threshold(policy.blur_probability),
        Number.SOLARIZE_BELOW: threshold(policy.solarize_probability),
        Number.SOLARIZE_THRESHOLD: _float32(policy.solarize_threshold),
        Number.NOISE_BELOW: threshold(policy.noise_probability),
        Number.ERASE_BELOW: threshold(policy.erase_probability),
        Number.CUTOUT: _float32(policy.cutout),
        Number.TRANSLATION: _float32(policy.translation),
    }
    ranges = {
        Number.CROP_SCALE_LOW: policy.crop_scale or (1.0, 1.0),
        Number.CROP_LOG_RATIO_LOW: _log2(policy.crop_ratio),
        Number.ROTATION_LOW: policy.rotation,
        Number.BLUR_SIGMA_LOW: policy.blur_sigma,
        Number.NOISE_LOW: policy.noise_std,
        Number.ERASE_SCALE_LOW: policy.erase_scale,
        Number.ERASE_LOG_RATIO_LOW: _log2(policy.erase_ratio),
        Number.DIFF_BRIGHTNESS_LOW: policy.diff_brightness,
        Number.DIFF_SATURATION_LOW: policy.diff_saturation,
        Number.DIFF_CONTRAST_LOW: policy.diff_contrast,
    }
    for name in JITTER:
        may = Number[name.upper()]
        values[may] = policy.jitters(name)
        ranges[Number(may + 1)] = getattr(policy, name)
    for first, (low, high) in ranges.items():
        values[first] = _float32(low)
        values[Number(first + 1)] = _float32(high - low)
    return tuple(float(values.get(number, 0.0)) for number in range(NUMBERS))  # type: ignore[call-overload]


def _log2(ratio: Range) -> Range:
    return math.log2(ratio[0]), math.log2(ratio[1])


def _float32(x: float) -> float:
    return struct.unpack("f", struct.pack("f", x))[0]
