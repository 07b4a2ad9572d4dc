"""The pointwise stages of a segment."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import colour
from sslkernels.augment.triton.plan import (
    BLUR,
    BRIGHTNESS_FACTOR,
    CONTRAST,
    CONTRAST_FACTOR,
    DIFF_BRIGHTNESS,
    DIFF_CONTRAST,
    DIFF_CONTRAST_FACTOR,
    DIFF_SATURATION,
    GRAYSCALE,
    HUE_SHIFT,
    MAY_COLOUR,
    MAY_DIFF_COLOUR,
    MAY_GRAYSCALE,
    MAY_NOISE,
    MAY_SOLARIZE,
    NOISE,
    NOISE_KEY,
    ORDER,
    ROTATE,
    SATURATION_FACTOR,
    SOLARIZE,
    contrast_place,
)


@triton.jit
def jitter_step(r, g, b, row, which, RGB: tl.constexpr):
    """One operation of the jitter, but contrast."""
    if which == 0.0:
        factor = tl.load(row + BRIGHTNESS_FACTOR)
        r = colour.unit_clamp(r * factor)
        g = colour.unit_clamp(g * factor)
        b = colour.unit_clamp(b * factor)
    if RGB:
        if which == 2.0:
            factor = tl.load(row + SATURATION_FACTOR)
            gray = colour.luma(r, g, b, RGB)
            r = colour.unit_clamp(colour.mix(r, gray, factor))
            g = colour.unit_clamp(colour.mix(g, gray, factor))
            b = colour.unit_clamp(colour.mix(b, gray, factor))
        if which == 3.0:
            r, g, b = colour.hue(r, g, b, tl.load(row + HUE_SHIFT))
    return r, g, b


@triton.jit
def contrast(r, g, b, mean, factor):
    r = colour.unit_clamp(colour.mix(r, mean, factor))
    g = colour.unit_clamp(colour.mix(g, mean, factor))
    b = colour.unit_clamp(colour.mix(b, mean, factor))
    return r, g, b


@triton.jit
def jitter_range(row, following, ENTRY: tl.constexpr, STAGES: tl.constexpr):
    """Which of the four places of the jitter belong to a segment, contrast itself aside."""
    place = contrast_place(row, STAGES)
    begin = place * 0
    if ENTRY == CONTRAST:
        begin = place + 1
    end = tl.where(following == CONTRAST, place, tl.where(following == ROTATE, 0, 4))
    return begin, end


@triton.jit
def apply_steps(
    r,
    g,
    b,
    row,
    mean,
    pixel,
    channel,
    following,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
):
    """What follows the entry up to the next one. mean: what the entry needs; pixel: its number."""
    if ENTRY <= CONTRAST:
        if MAY_COLOUR & STAGES:
            begin, end = jitter_range(row, following, ENTRY, STAGES)
            if ENTRY == CONTRAST:
                r, g, b = contrast(r, g, b, mean, tl.load(row + CONTRAST_FACTOR))
            for i in tl.static_range(4):
                if (i >= begin) & (i < end):
                    r, g, b = jitter_step(r, g, b, row, tl.load(row + ORDER + i), RGB)
        if RGB and MAY_GRAYSCALE & STAGES:
            if (following > CONTRAST) & (tl.load(row + GRAYSCALE) != 0.0):
                r = colour.luma(r, g, b, RGB)
                g = r
                b = r
    if ENTRY <= BLUR:
        if following > BLUR:
            r, g, b = _steps_after_blur(r, g, b, row, pixel, channel, STAGES, RGB)
    if ENTRY == DIFF_CONTRAST:
        factor = tl.load(row + DIFF_CONTRAST_FACTOR)
        r = (r - mean) * factor + mean
        g = (g - mean) * factor + mean
        b = (b - mean) * factor + mean
    return r, g, b


@triton.jit
def _steps_after_blur(r, g, b, row, pixel, channel, STAGES: tl.constexpr, RGB: tl.constexpr):
    if MAY_SOLARIZE & STAGES:
        threshold = tl.load(row + SOLARIZE)
        r = colour.solarize(r, threshold)
        g = colour.solarize(g, threshold)
        b = colour.solarize(b, threshold)
    if MAY_NOISE & STAGES:
        deviation = tl.load(row + NOISE)
        if deviation > 0.0:
            one, two, three = noise_of(row, pixel, channel, RGB)
            r = colour.unit_clamp(r + deviation * one)
            g = colour.unit_clamp(g + deviation * two)
            b = colour.unit_clamp(b + deviation * three)
    if MAY_DIFF_COLOUR & STAGES:
        brightness = tl.load(row + DIFF_BRIGHTNESS)
        r += brightness
        g += brightness
        b += brightness
        if RGB:
            factor = tl.load(row + DIFF_SATURATION)
            gray = (r + g + b) / 3.0
            r = (r - gray) * factor + gray
            g = (g - gray) * factor + gray
            b = (b - gray) * factor + gray
    return r, g, b


@triton.jit
def noise_of(row, pixel, channel, RGB: tl.constexpr):
    first, second = tl.load(row + NOISE_KEY), tl.load(row + NOISE_KEY + 1)
    return colour.normals(first, second, pixel, channel, RGB)
