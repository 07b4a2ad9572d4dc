"""Draws with Python's own integers and floats, one row at a time, from what draws.py says."""

from __future__ import annotations

import itertools
import math
import struct

from sslkernels import AugmentPolicy
from tests.test_philox import python_rounds

AUGMENT, AUGMENT_NOISE = 5, 6  # the streams of csrc/philox.h


def words(seed: int, epoch: int, sample: int, view: int, draw: int) -> tuple[int, ...]:
    unsigned = sample % 2**64
    index = 65536 * view + draw
    counter = (AUGMENT + 256 * epoch, unsigned % 2**32, unsigned // 2**32, index)
    return python_rounds(counter, (seed % 2**32, seed // 2**32))


def float32(x: float) -> float:
    return struct.unpack("f", struct.pack("f", x))[0]


def between(word: int, bounds: tuple[float, float]) -> float:
    low, span = float32(bounds[0]), float32(bounds[1] - bounds[0])
    return float32(low + span * (word // 256 / 2**24))


def below(word: int, n: int) -> int:
    return word * n // 2**32


def yes(word: int, probability: float) -> bool:
    return word < round(probability * 2**32)


def power_of_two(x: float) -> float:
    n = math.floor(x + 0.5)
    acc = 0.0
    for c in (1.535336188319500e-4, 1.339887440266574e-3, 9.618437357674640e-3,
              5.550332471162809e-2, 2.402264791363012e-1, 6.931472028550421e-1, 1.0):  # fmt: skip
        acc = float32(acc * (x - n) + float32(c))
    return math.ldexp(acc, n)


def side(area: float) -> int:
    return math.floor(math.sqrt(area) + 0.5)


def logarithms(ratio: tuple[float, float]) -> tuple[float, float]:
    return math.log2(ratio[0]), math.log2(ratio[1])


def crop(policy: AugmentPolicy, height: int, width: int, block) -> tuple[int, ...]:
    if policy.crop_scale is None:
        return 0, 0, height, width
    for attempt in range(10):
        w = block(attempt)
        area = float(height * width) * between(w[0], policy.crop_scale)
        ratio = power_of_two(between(w[1], logarithms(policy.crop_ratio)))
        across, down = side(area * ratio), side(area / ratio)
        if 1 <= across <= width and 1 <= down <= height:
            return below(w[2], height - down + 1), below(w[3], width - across + 1), down, across
    low, high = map(float32, policy.crop_ratio)
    down, across = height, width
    if width / height < low:
        down = max(1, math.floor(width / low + 0.5))
    elif width / height > high:
        across = max(1, math.floor(height * high + 0.5))
    return (height - down) // 2, (width - across) // 2, down, across


def erased(policy: AugmentPolicy, block) -> tuple[int, ...]:
    height, width = policy.height, policy.width
    if policy.cutout:
        box = []
        for i, length in enumerate((height, width)):
            extent = math.floor(float32(policy.cutout) * length + 0.5)
            first = below(block(26)[2 + i], length + 1 - extent % 2) - extent // 2
            box.append((max(first, 0), min(first + extent, length) - max(first, 0)))
        return box[0][0], box[1][0], box[0][1], box[1][1]
    for attempt in range(10 * yes(block(14)[2], policy.erase_probability)):
        w = block(15 + attempt)
        area = float(height * width) * between(w[0], policy.erase_scale)
        ratio = power_of_two(between(w[1], logarithms(policy.erase_ratio)))
        down, across = side(area * ratio), side(area / ratio)
        if down < height and across < width:
            return below(w[2], height - down + 1), below(w[3], width - across + 1), down, across
    return 0, 0, 0, 0


def row(
    policy: AugmentPolicy, seed: int, epoch: int, sample: int, view: int, height: int, width: int
) -> list[float]:
    """The 32 numbers."""

    def block(draw: int) -> tuple[int, ...]:
        return words(seed, epoch, sample, view, draw)

    turn, choice, factors, pixel = block(10), block(11), block(12), block(13)
    key, diff, shift = block(14), block(25), block(26)
    names = ("brightness", "contrast", "saturation", "hue")
    order = sorted(itertools.permutations(range(4)))[below(choice[1], 24)]
    jitter = yes(choice[0], policy.jitter_probability)
    most = [math.floor(float32(policy.translation) * x + 0.5) for x in policy.size]
    return [
        *crop(policy, height, width, block),
        yes(turn[0], policy.horizontal_flip),
        yes(turn[1], policy.vertical_flip),
        between(turn[3], policy.rotation) if yes(turn[2], policy.rotation_probability) else 0,
        0,
        *(o if jitter and policy.jitters(names[o]) else -1 for o in order),
        *(between(factors[i], getattr(policy, name)) for i, name in enumerate(names)),
        yes(choice[2], policy.grayscale),
        between(pixel[0], policy.blur_sigma) if yes(choice[3], policy.blur_probability) else 0,
        float32(policy.solarize_threshold) if yes(pixel[1], policy.solarize_probability) else 2,
        between(pixel[3], policy.noise_std) if yes(pixel[2], policy.noise_probability) else 0,
        *erased(policy, block),
        *(below(shift[i], 2 * most[i] + 1) - most[i] for i in range(2)),
        between(diff[0], policy.diff_brightness),
        between(diff[1], policy.diff_saturation),
        between(diff[2], policy.diff_contrast),
        key[0] // 256,
        key[1] // 256,
        0,
    ]


def noise(keys: tuple[int, int], channel: int, pixel: int) -> float:
    """Standard normal, from what colour.py says."""
    drawn = python_rounds((AUGMENT_NOISE, channel // 4, 0, pixel), keys)
    first, second = drawn[channel % 4 // 2 * 2 :][:2]
    radius = math.sqrt(-2 * math.log((first // 256 + 1) / 2**24))
    angle = 2 * math.pi * (second // 256 / 2**24)
    return radius * (math.sin(angle) if channel % 2 else math.cos(angle))
