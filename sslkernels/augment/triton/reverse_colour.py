"""Gradients of the stages in colour.py: from that of a stage's result to that of its input.

At kinks they take torch's side: a clamp passes what lies within its bounds or on them, and where
several channels are the largest or smallest they share.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import colour
from sslkernels.augment.triton.colour import BLUE, GREEN, RED


@triton.jit
def unit_clamp(x, gradient):
    return tl.where((x >= 0.0) & (x <= 1.0), gradient, 0.0)


@triton.jit
def saturation(r, g, b, dr, dg, db, factor):
    gray = colour.luma(r, g, b, True)
    dr = unit_clamp(colour.mix(r, gray, factor), dr)
    dg = unit_clamp(colour.mix(g, gray, factor), dg)
    db = unit_clamp(colour.mix(b, gray, factor), db)
    shared = (dr + dg + db) * (1.0 - factor)
    return dr * factor + shared * RED, dg * factor + shared * GREEN, db * factor + shared * BLUE


@triton.jit
def grayscale(dr, dg, db):
    total = dr + dg + db
    return total * RED, total * GREEN, total * BLUE


@triton.jit
def hue(r, g, b, dr, dg, db, shift):
    """A channel is high - max(min(k, 4 span - k, span), 0), k being position + offset * span."""
    ALL: tl.constexpr = tl.PropagateNan.ALL
    high = tl.maximum(tl.maximum(r, g, propagate_nan=ALL), b, propagate_nan=ALL)
    low = tl.minimum(tl.minimum(r, g, propagate_nan=ALL), b, propagate_nan=ALL)
    span = high - low
    red, green = high == r, high == g  # green only where not red
    turns = tl.where(red, 0.0, tl.where(green, 2.0, 4.0)) + 6.0 * shift
    difference = tl.where(red, g - b, tl.where(green, b - r, r - g))
    angle = difference + turns * span
    angle_r, span_r = _ramp(angle, span, 5.0, dr)
    angle_g, span_g = _ramp(angle, span, 3.0, dg)
    angle_b, span_b = _ramp(angle, span, 1.0, db)
    to_angle = angle_r + angle_g + angle_b
    to_span = span_r + span_g + span_b + to_angle * turns
    to_high = dr + dg + db + to_span

    dr = tl.where(red, 0.0, tl.where(green, -to_angle, to_angle))
    dg = tl.where(red, to_angle, tl.where(green, 0.0, -to_angle))
    db = tl.where(red, -to_angle, tl.where(green, to_angle, 0.0))
    high_r, high_g, high_b = _shares(r, g, b, high, to_high)
    low_r, low_g, low_b = _shares(r, g, b, low, -to_span)
    return dr + high_r + low_r, dg + high_g + low_g, db + high_b + low_b


@triton.jit
def _ramp(angle, span, offset, gradient):
    """What flows to the angle and to the span through -max(min(k, 4 span - k, span), 0)."""
    turns = tl.zeros_like(angle) + offset
    k = angle + offset * span
    turns = tl.where(k < 0.0, turns + 6.0, turns)
    k = tl.where(k < 0.0, k + 6.0 * span, k)
    for _ in tl.static_range(2):
        over = k >= 6.0 * span
        turns = tl.where(over, turns - 6.0, turns)
        k = tl.where(over, k - 6.0 * span, k)
    rising, falling = k, 4.0 * span - k
    lower = tl.minimum(rising, falling)
    # Equal parts where two are the least, as torch has it.
    up = tl.where(rising < falling, 1.0, tl.where(rising == falling, 0.5, 0.0))
    sloped = tl.where(lower < span, 1.0, tl.where(lower == span, 0.5, 0.0))
    passed = tl.where(tl.minimum(lower, span) >= 0.0, -gradient, 0.0)
    rise, fall = passed * sloped * up, passed * sloped * (1.0 - up)
    to_angle = rise - fall
    to_span = rise * turns + fall * (4.0 - turns) + passed * (1.0 - sloped)
    return to_angle, to_span


@triton.jit
def _shares(r, g, b, extreme, gradient):
    """The gradient of the largest or smallest channel, in equal parts where several are."""
    in_r = (r == extreme).to(tl.float32)
    in_g = (g == extreme).to(tl.float32)
    in_b = (b == extreme).to(tl.float32)
    part = gradient / (in_r + in_g + in_b)
    return in_r * part, in_g * part, in_b * part
