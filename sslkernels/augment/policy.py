"""`AugmentPolicy`: what may happen to an image on its way to a view."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any

import torch

from sslkernels import checks
from sslkernels.augment import numbers
from sslkernels.augment.layout import Stage

Range = tuple[float, float]

LARGEST_SIDE = 2**15
LARGEST_RATIO = 2.0**16

_NAME = "AugmentPolicy"


@dataclass(frozen=True, repr=False)
class AugmentPolicy:
    """What may happen to an image, in the order in which it happens.

    Every image of every view has draws of its own. uint8 pixels are divided by 255 first; float
    pixels are taken to lie in [0, 1]. Each stage does what the function of its name in
    `torchvision.transforms.v2.functional` does to a float image. A range is a pair (low, high).

    Args:
        size: height and width of the view, or one int for both.
        crop_scale: range of the random crop's area as a share of the image's; None: no crop.
        crop_ratio: range of width / height of the crop, log-uniform.
        horizontal_flip, vertical_flip: probabilities.
        rotation: range of degrees, counter-clockwise, or r for (-r, r); bilinear, zero where the
            source lies outside.
        rotation_probability: of rotating at all.
        brightness, contrast, saturation: range of the factor, or x for (max(0, 1 - x), 1 + x).
        hue: range of the shift in turns, within [-0.5, 0.5], or x for (-x, x). These four happen
            in random order; one that can change nothing, being (1, 1) or (0, 0), is left out.
        jitter_probability: of doing the four at all.
        grayscale: probability.
        blur_probability, blur_sigma: Gaussian blur, and the range of its standard deviation in
            pixels of the view, or a float for always the same.
        blur_kernel: odd; None: a tenth of the smaller side of the view, made odd, at least 3.
        solarize_probability, solarize_threshold: x becomes 1 - x at or above the threshold.
        noise_probability, noise_std: Gaussian noise, clamped to [0, 1], and the range of its
            standard deviation, or a float for always the same.
        diff_brightness, diff_saturation, diff_contrast: the colour of DiffAugment, never clamped:
            ranges of what is added, of the factor on the distance from the pixel's mean, and of
            the factor on the distance from the image's mean.
        translation: largest shift as a share of each side; zero where nothing comes from.
        mean, std: a tuple with one number for each channel, or with one for all; None: neither.
        erase_probability, erase_scale, erase_ratio: random erasing, after normalisation, of a box
            with this share of the view's area and this height / width, log-uniform.
        cutout: instead, always a box with this share of both sides, cut off at the border.
        erase_value: what fills an erased box.
        dtype: of the views; None: float64 for float64 images, else float32.
        channels_last: memory format of each view.

    Raises:
        TypeError, ValueError: a field of the wrong type or out of its range; the error names it.

    Papers: SimCLR, arXiv 2002.05709; DiffAugment, arXiv 2006.10738; cutout, arXiv 1708.04552;
    random erasing, arXiv 1708.04896.
    """

    size: int | tuple[int, int]
    crop_scale: Range | None = None
    crop_ratio: Range = (3 / 4, 4 / 3)
    horizontal_flip: float = 0.0
    vertical_flip: float = 0.0
    rotation: float | Range = (0.0, 0.0)
    rotation_probability: float = 1.0
    brightness: float | Range = (1.0, 1.0)
    contrast: float | Range = (1.0, 1.0)
    saturation: float | Range = (1.0, 1.0)
    hue: float | Range = (0.0, 0.0)
    jitter_probability: float = 1.0
    grayscale: float = 0.0
    blur_probability: float = 0.0
    blur_sigma: float | Range = (0.1, 2.0)
    blur_kernel: int | None = None
    solarize_probability: float = 0.0
    solarize_threshold: float = 0.5
    noise_probability: float = 0.0
    noise_std: float | Range = (0.1, 0.1)
    diff_brightness: Range = (0.0, 0.0)
    diff_saturation: Range = (1.0, 1.0)
    diff_contrast: Range = (1.0, 1.0)
    translation: float = 0.0
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    erase_probability: float = 0.0
    erase_scale: Range = (0.02, 0.33)
    erase_ratio: Range = (0.3, 3.3)
    cutout: float = 0.0
    erase_value: float = 0.0
    dtype: torch.dtype | None = None
    channels_last: bool = False

    # Made of the fields above, once, for the operators.
    stages: Stage = field(init=False, compare=False)
    numbers: tuple[float, ...] = field(init=False, compare=False)

    def __post_init__(self) -> None:
        self._set("size", _size(self.size))
        for name in ("horizontal_flip", "vertical_flip", "rotation_probability", "grayscale",
                     "jitter_probability", "blur_probability", "solarize_probability",
                     "noise_probability", "erase_probability", "solarize_threshold",
                     "translation", "cutout"):  # fmt: skip
            checks.number(_NAME, name, getattr(self, name), 0.0, 1.0)
            self._set(name, float(getattr(self, name)))
        if self.crop_scale is not None:
            self._range("crop_scale", 0.0, 1.0, positive=True)
        self._range("crop_ratio", 1 / LARGEST_RATIO, LARGEST_RATIO)
        self._range("rotation", -360.0, 360.0, lambda x: (-x, x))
        for name in ("brightness", "contrast", "saturation"):
            self._range(name, 0.0, math.inf, _around_one)
        self._range("hue", -0.5, 0.5, lambda x: (-x, x))
        self._range("blur_sigma", 0.0, math.inf, lambda x: (x, x), positive=True)
        self._blur_kernel()
        self._range("noise_std", 0.0, math.inf, lambda x: (x, x))
        for name in ("diff_brightness", "diff_saturation", "diff_contrast"):
            self._range(name, -math.inf, math.inf)
        self._normalisation()
        self._range("erase_scale", 0.0, 1.0, positive=True)
        self._range("erase_ratio", 1 / LARGEST_RATIO, LARGEST_RATIO)
        if self.cutout and self.erase_probability:
            raise ValueError(
                f"{_NAME}: cutout must be 0 where erase_probability is not, got {self.cutout}"
            )
        checks.number(_NAME, "erase_value", self.erase_value, -math.inf, math.inf)
        if self.dtype is not None and self.dtype not in checks.FLOAT_DTYPES:
            raise TypeError(f"{_NAME}: dtype must be a floating torch.dtype, got {self.dtype!r}")
        if not isinstance(self.channels_last, bool):
            raise TypeError(
                f"{_NAME}: channels_last must be a bool, got {type(self.channels_last).__name__}"
            )
        self._set("stages", numbers.stages(self))
        self._set("numbers", numbers.pack(self))

    @property
    def height(self) -> int:
        assert isinstance(self.size, tuple)
        return self.size[0]

    @property
    def width(self) -> int:
        assert isinstance(self.size, tuple)
        return self.size[1]

    def jitters(self, name: str) -> bool:
        """Whether brightness, contrast, saturation or hue may change anything."""
        neutral = numbers.JITTER[name]
        return getattr(self, name) != (neutral, neutral)

    def to_dict(self) -> dict[str, Any]:
        """Fields and values, of types that JSON knows; `from_dict` is the way back."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.init}
        values = {k: list(v) if isinstance(v, tuple) else v for k, v in values.items()}
        values["dtype"] = None if self.dtype is None else str(self.dtype).removeprefix("torch.")
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> AugmentPolicy:
        """The policy that `to_dict` described; fields that are missing have their defaults.

        Raises:
            TypeError, ValueError: as the constructor; a name that is no field; an unknown dtype.
        """
        names = {f.name for f in fields(cls) if f.init}
        if unknown := sorted(set(values) - names):
            raise ValueError(f"{_NAME}: {unknown[0]!r} is no field")
        if "size" not in values:
            raise ValueError(f"{_NAME}: size must be given")
        arguments = dict(values)
        name = arguments.get("dtype")
        if isinstance(name, str):
            dtypes = {str(dtype).removeprefix("torch."): dtype for dtype in checks.FLOAT_DTYPES}
            if name not in dtypes:
                wanted = ", ".join(dtypes)
                raise ValueError(f"{_NAME}: dtype must be one of {wanted}, got {name!r}")
            arguments["dtype"] = dtypes[name]
        return cls(**arguments)

    def __repr__(self) -> str:
        """The size and what differs from its default."""
        shown = (f for f in fields(self) if f.init)
        parts = [f"{f.name}={_show(v)}" for f in shown if (v := getattr(self, f.name)) != f.default]
        return f"{_NAME}({', '.join(parts)})"

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)

    def _range(
        self,
        name: str,
        lowest: float,
        highest: float,
        spread: Callable[[float], Range] | None = None,
        positive: bool = False,
    ) -> None:
        """The field as a pair of finite floats, ascending, within bounds."""
        value = getattr(self, name)
        if spread is not None and isinstance(value, (int, float)):
            checks.number(_NAME, name, value, 0.0, math.inf)
            value = spread(float(value))
        if not isinstance(value, (tuple, list)) or len(value) != 2:
            alone = "" if spread is None else " or a float"
            raise TypeError(f"{_NAME}: {name} must be a pair (low, high){alone}, got {value!r}")
        for end in value:
            if isinstance(end, bool) or not isinstance(end, (int, float)):
                raise TypeError(f"{_NAME}: {name} must hold floats, got {type(end).__name__}")
        low, high = float(value[0]), float(value[1])
        inside = (low > 0 if positive else low >= lowest) and high <= highest
        if not (inside and low <= high and math.isfinite(low) and math.isfinite(high)):
            bracket = "(" if positive else "["
            raise ValueError(
                f"{_NAME}: {name} must be low <= high, finite and in "
                f"{bracket}{lowest:g}, {highest:g}], got ({low:g}, {high:g})"
            )
        self._set(name, (low, high))

    def _blur_kernel(self) -> None:
        kernel, side = self.blur_kernel, min(self.height, self.width)
        if kernel is None:
            kernel = max(3, side // 10 // 2 * 2 + 1)
        if isinstance(kernel, bool) or not isinstance(kernel, int):
            raise TypeError(f"{_NAME}: blur_kernel must be an int, got {type(kernel).__name__}")
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"{_NAME}: blur_kernel must be odd and positive, got {kernel}")
        # The view is mirrored at its border, its outermost pixels not repeated.
        if self.blur_probability and kernel // 2 >= side:
            raise ValueError(
                f"{_NAME}: blur_kernel must be at most {2 * side - 1} for size {self.size}, "
                f"got {kernel}"
            )
        self._set("blur_kernel", kernel)

    def _normalisation(self) -> None:
        if (self.mean is None) != (self.std is None):
            missing = "mean" if self.mean is None else "std"
            raise ValueError(f"{_NAME}: mean and std must be given together, {missing} is None")
        for name in ("mean", "std"):
            values = getattr(self, name)
            if values is None:
                continue
            if not isinstance(values, (tuple, list)) or not values:
                raise TypeError(f"{_NAME}: {name} must be a tuple of floats, got {values!r}")
            for value in values:
                checks.number(_NAME, name, value, -math.inf, math.inf)
            self._set(name, tuple(float(value) for value in values))
        if self.mean is not None and self.std is not None:
            if len(self.mean) != len(self.std):
                raise ValueError(
                    f"{_NAME}: std must be as long as mean, {len(self.mean)}, got {len(self.std)}"
                )
            if min(self.std) <= 0:
                raise ValueError(f"{_NAME}: std must be positive, got {self.std}")


def _around_one(x: float) -> Range:
    # Rounded, so that 0.8 becomes 0.2 and not 0.19999999999999996.
    return max(0.0, round(1.0 - x, 12)), round(1.0 + x, 12)


def _size(value: object) -> tuple[int, int]:
    sides = (value, value) if isinstance(value, int) else value
    if not isinstance(sides, (tuple, list)) or len(sides) != 2:
        raise TypeError(f"{_NAME}: size must be an int or (height, width), got {value!r}")
    for side in sides:
        if isinstance(side, bool) or not isinstance(side, int):
            raise TypeError(f"{_NAME}: size must hold ints, got {type(side).__name__}")
        if not 1 <= side <= LARGEST_SIDE:
            raise ValueError(f"{_NAME}: size must lie in [1, {LARGEST_SIDE}], got {value}")
    return sides[0], sides[1]


def _show(value: object) -> str:
    if isinstance(value, float):
        short = f"{value:g}"
        return short if float(short) == value else repr(value)
    if isinstance(value, tuple):
        return f"({', '.join(map(_show, value))}{',' * (len(value) == 1)})"
    return str(value)
