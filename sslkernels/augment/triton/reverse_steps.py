"""The gradients of the pointwise stages of a segment, last to first."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import colour, reverse_colour
from sslkernels.augment.triton.plan import (
    BLUR,
    BRIGHTNESS_FACTOR,
    CONTRAST,
    CONTRAST_FACTOR,
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
    ORDER,
    SATURATION_FACTOR,
    SOLARIZE,
)
from sslkernels.augment.triton.steps import contrast, jitter_range, jitter_step, noise_of


@triton.jit
def reverse_steps(
    r,
    g,
    b,
    dr,
    dg,
    db,
    row,
    mean,
    pixel,
    channel,
    following,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
):
    """From the gradient of what `apply_steps` makes of (r, g, b) to that of (r, g, b).

    The last of what is returned is, for each pixel, what flows to the mean.
    """
    to_mean = tl.zeros_like(dr)
    first_r, first_g, first_b = r, g, b
    if ENTRY <= CONTRAST:
        if MAY_COLOUR & STAGES:
            begin, end = jitter_range(row, following, ENTRY, STAGES)
            if ENTRY == CONTRAST:
                r, g, b = contrast(r, g, b, mean, tl.load(row + CONTRAST_FACTOR))
            r0, g0, b0 = r, g, b
            r1, g1, b1 = _step_in_range(r0, g0, b0, row, 0, begin, end, RGB)
            r2, g2, b2 = _step_in_range(r1, g1, b1, row, 1, begin, end, RGB)
            r3, g3, b3 = _step_in_range(r2, g2, b2, row, 2, begin, end, RGB)
            r, g, b = _step_in_range(r3, g3, b3, row, 3, begin, end, RGB)
        if RGB and MAY_GRAYSCALE & STAGES:
            grays = (following > CONTRAST) & (tl.load(row + GRAYSCALE) != 0.0)
            gray = colour.luma(r, g, b, RGB)
            r, g, b = tl.where(grays, gray, r), tl.where(grays, gray, g), tl.where(grays, gray, b)

    if ENTRY <= BLUR:
        if following > BLUR:
            dr, dg, db = _after_blur(r, g, b, dr, dg, db, row, pixel, channel, STAGES, RGB)
    if ENTRY <= CONTRAST:
        if RGB and MAY_GRAYSCALE & STAGES:
            if grays:
                dr, dg, db = reverse_colour.grayscale(dr, dg, db)
        if MAY_COLOUR & STAGES:
            dr, dg, db = _reverse_in_range(r3, g3, b3, dr, dg, db, row, 3, begin, end, RGB)
            dr, dg, db = _reverse_in_range(r2, g2, b2, dr, dg, db, row, 2, begin, end, RGB)
            dr, dg, db = _reverse_in_range(r1, g1, b1, dr, dg, db, row, 1, begin, end, RGB)
            dr, dg, db = _reverse_in_range(r0, g0, b0, dr, dg, db, row, 0, begin, end, RGB)
    if ENTRY == CONTRAST:
        factor = tl.load(row + CONTRAST_FACTOR)
        dr = reverse_colour.unit_clamp(colour.mix(first_r, mean, factor), dr)
        dg = reverse_colour.unit_clamp(colour.mix(first_g, mean, factor), dg)
        db = reverse_colour.unit_clamp(colour.mix(first_b, mean, factor), db)
        to_mean, dr, dg, db = _through_mean(dr, dg, db, factor, RGB)
    if ENTRY == DIFF_CONTRAST:
        factor = tl.load(row + DIFF_CONTRAST_FACTOR)
        to_mean, dr, dg, db = _through_mean(dr, dg, db, factor, RGB)
    return dr, dg, db, to_mean


@triton.jit
def _through_mean(dr, dg, db, factor, RGB: tl.constexpr):
    """The gradient of x * factor + mean * (1 - factor)."""
    total = dr
    if RGB:
        total = dr + dg + db
    return total * (1.0 - factor), dr * factor, dg * factor, db * factor


@triton.jit
def _step_in_range(r, g, b, row, PLACE: tl.constexpr, begin, end, RGB: tl.constexpr):
    if (begin <= PLACE) & (end > PLACE):
        r, g, b = jitter_step(r, g, b, row, tl.load(row + ORDER + PLACE), RGB)
    return r, g, b


@triton.jit
def _reverse_in_range(r, g, b, dr, dg, db, row, PLACE: tl.constexpr, begin, end, RGB: tl.constexpr):
    if (begin <= PLACE) & (end > PLACE):
        dr, dg, db = _jitter_step(r, g, b, dr, dg, db, row, tl.load(row + ORDER + PLACE), RGB)
    return dr, dg, db


@triton.jit
def _jitter_step(r, g, b, dr, dg, db, row, which, RGB: tl.constexpr):
    if which == 0.0:
        factor = tl.load(row + BRIGHTNESS_FACTOR)
        dr = reverse_colour.unit_clamp(r * factor, dr) * factor
        dg = reverse_colour.unit_clamp(g * factor, dg) * factor
        db = reverse_colour.unit_clamp(b * factor, db) * factor
    if RGB:
        if which == 2.0:
            factor = tl.load(row + SATURATION_FACTOR)
            dr, dg, db = reverse_colour.saturation(r, g, b, dr, dg, db, factor)
        if which == 3.0:
            dr, dg, db = reverse_colour.hue(r, g, b, dr, dg, db, tl.load(row + HUE_SHIFT))
    return dr, dg, db


@triton.jit
def _after_blur(r, g, b, dr, dg, db, row, pixel, channel, STAGES: tl.constexpr, RGB: tl.constexpr):
    if MAY_DIFF_COLOUR & STAGES:
        if RGB:  # the matrix of the saturation is symmetric
            factor = tl.load(row + DIFF_SATURATION)
            mean = (dr + dg + db) / 3.0
            dr = (dr - mean) * factor + mean
            dg = (dg - mean) * factor + mean
            db = (db - mean) * factor + mean
    threshold = 2.0
    if MAY_SOLARIZE & STAGES:
        threshold = tl.load(row + SOLARIZE)
    if MAY_NOISE & STAGES:
        deviation = tl.load(row + NOISE)
        if deviation > 0.0:
            one, two, three = noise_of(row, pixel, channel, RGB)
            dr = reverse_colour.unit_clamp(colour.solarize(r, threshold) + deviation * one, dr)
            dg = reverse_colour.unit_clamp(colour.solarize(g, threshold) + deviation * two, dg)
            db = reverse_colour.unit_clamp(colour.solarize(b, threshold) + deviation * three, db)
    if MAY_SOLARIZE & STAGES:
        dr = tl.where(r >= threshold, -dr, dr)
        dg = tl.where(g >= threshold, -dg, dg)
        db = tl.where(b >= threshold, -db, db)
    return dr, dg, db
