"""The layouts that every implementation of augmentation shares; csrc/augment has them in C++.

`Slot` is what a row of draws holds, `Number` what a policy tells the drawing, `Stage` what a policy
may do at all.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag, auto

ROW = 32
NUMBERS = 64


class Stage(IntFlag):
    """Stages after crop, resize and flips, as bits: those not named by a policy are passed over,
    whatever a row says."""

    ROTATION = 1
    COLOUR = 2
    GRAYSCALE = 4
    BLUR = 8
    SOLARIZE = 16
    NOISE = 32
    DIFF_COLOUR = 64
    TRANSLATION = 128
    ERASE = 256


AFFINE = Stage.ROTATION | Stage.BLUR | Stage.DIFF_COLOUR | Stage.TRANSLATION | Stage.ERASE
"""Stages that are affine functions of the image, as crop, resize, flips and normalisation are."""

COLOURED = Stage.COLOUR | Stage.GRAYSCALE
"""Stages that need an image of one or three channels."""


class Slot(IntEnum):
    """Columns of a row of draws, float32 [V, B, 32]; those without a name are 0.

    Lengths are in pixels and whole numbers, of the image for the crop, of the view elsewhere.
    """

    TOP = 0
    LEFT = 1
    HEIGHT = 2
    WIDTH = 3
    HORIZONTAL_FLIP = 4  # 0 or 1
    VERTICAL_FLIP = 5  # 0 or 1
    ROTATION = 6  # degrees, counter-clockwise
    ORDER = 8  # four columns: 0 brightness, 1 contrast, 2 saturation, 3 hue, -1 none
    BRIGHTNESS = 12  # factor
    CONTRAST = 13  # factor
    SATURATION = 14  # factor
    HUE = 15  # shift in turns
    GRAYSCALE = 16  # 0 or 1
    BLUR_SIGMA = 17  # 0: none
    SOLARIZE = 18  # threshold; 2: none
    NOISE = 19  # standard deviation; 0: none
    ERASE_TOP = 20
    ERASE_LEFT = 21
    ERASE_HEIGHT = 22  # 0: none
    ERASE_WIDTH = 23
    DOWN = 24  # translation
    RIGHT = 25
    DIFF_BRIGHTNESS = 26  # added
    DIFF_SATURATION = 27  # factor
    DIFF_CONTRAST = 28  # factor
    NOISE_KEY = 29  # two columns: keys of 24 bits for the generator of the noise


class Number(IntEnum):
    """A policy as 64 floats; those without a name are 0.

    Thresholds are round(probability * 2**32). All others are rounded to float32: what draws make of
    them then needs no rounding of products, and comes out the same with and without fused
    multiply-add. LOW and SPAN are a range's lower end and its extent; LOG ones are of log2.
    """

    HEIGHT = 0
    WIDTH = auto()
    CROP = auto()  # 0: the whole image, 1: a random crop
    CROP_SCALE_LOW = auto()
    CROP_SCALE_SPAN = auto()
    CROP_LOG_RATIO_LOW = auto()
    CROP_LOG_RATIO_SPAN = auto()
    CROP_RATIO_LOW = auto()
    CROP_RATIO_HIGH = auto()
    HORIZONTAL_FLIP_BELOW = auto()
    VERTICAL_FLIP_BELOW = auto()
    ROTATION_BELOW = auto()
    ROTATION_LOW = auto()
    ROTATION_SPAN = auto()
    JITTER_BELOW = auto()
    # Whether it may happen, then its range, for brightness, contrast, saturation and hue in turn.
    BRIGHTNESS = auto()
    BRIGHTNESS_LOW = auto()
    BRIGHTNESS_SPAN = auto()
    CONTRAST = auto()
    CONTRAST_LOW = auto()
    CONTRAST_SPAN = auto()
    SATURATION = auto()
    SATURATION_LOW = auto()
    SATURATION_SPAN = auto()
    HUE = auto()
    HUE_LOW = auto()
    HUE_SPAN = auto()
    GRAYSCALE_BELOW = auto()
    BLUR_BELOW = auto()
    BLUR_SIGMA_LOW = auto()
    BLUR_SIGMA_SPAN = auto()
    SOLARIZE_BELOW = auto()
    SOLARIZE_THRESHOLD = auto()
    NOISE_BELOW = auto()
    NOISE_LOW = auto()
    NOISE_SPAN = auto()
    ERASE_BELOW = auto()
    ERASE_SCALE_LOW = auto()
    ERASE_SCALE_SPAN = auto()
    ERASE_LOG_RATIO_LOW = auto()
    ERASE_LOG_RATIO_SPAN = auto()
    CUTOUT = auto()  # share of the sides; 0: none
    TRANSLATION = auto()  # share of the sides
    DIFF_BRIGHTNESS_LOW = auto()
    DIFF_BRIGHTNESS_SPAN = auto()
    DIFF_SATURATION_LOW = auto()
    DIFF_SATURATION_SPAN = auto()
    DIFF_CONTRAST_LOW = auto()
    DIFF_CONTRAST_SPAN = auto()
