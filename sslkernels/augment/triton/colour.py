"""Stages that change pixels where they are, for blocks of pixels: as `sslkernels.augment.colour`.

A pixel is three numbers. With RGB false an image has one channel, and all three are that one.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import math

import triton
import triton.language as tl

from sslkernels import philox_triton
from sslkernels.augment.colour import LUMA
from sslkernels.philox import Stream

RED, GREEN, BLUE = (tl.constexpr(weight) for weight in LUMA)
_NOISE = tl.constexpr(int(Stream.AUGMENT_NOISE))
_UNIT = tl.constexpr(2.0**-24)
_QUARTER = tl.constexpr(2**22)
_EIGHTH = tl.constexpr(2**21)
_TURN = tl.constexpr(2 * math.pi * 2.0**-24)


@triton.jit
def unit_clamp(x):
    """Into [0, 1]; NaN stays NaN."""
    return tl.where(x > 1.0, 1.0, tl.where(x < 0.0, 0.0, x))


@triton.jit
def luma(r, g, b, RGB: tl.constexpr):
    value = r
    if RGB:
        value = r * RED + g * GREEN + b * BLUE
    return value


@triton.jit
def mix(x, other, factor):
    """Before its clamp: x * factor + other * (1 - factor)."""
    return x * factor + other * (1.0 - factor)


@triton.jit
def hue(r, g, b, shift):
    """Shifts the hue of a block of pixels by a share of a turn."""
    ALL: tl.constexpr = tl.PropagateNan.ALL
    high = tl.maximum(tl.maximum(r, g, propagate_nan=ALL), b, propagate_nan=ALL)
    low = tl.minimum(tl.minimum(r, g, propagate_nan=ALL), b, propagate_nan=ALL)
    span = high - low
    position = tl.where(high == g, b - r + 2.0 * span, r - g + 4.0 * span)
    position = tl.where(high == r, g - b, position) + 6.0 * shift * span
    red = _hue_channel(position + 5.0 * span, high, span)
    green = _hue_channel(position + 3.0 * span, high, span)
    blue = _hue_channel(position + span, high, span)
    return red, green, blue


@triton.jit
def _hue_channel(k, high, span):
    k = _into_turn(k, span)
    ramp = tl.minimum(tl.minimum(k, 4.0 * span - k), span)
    return high - tl.maximum(ramp, 0.0)


@triton.jit
def _into_turn(k, span):
    """k, which lies in [-4 span, 13 span], as a number in [0, 6 span)."""
    k = tl.where(k < 0.0, k + 6.0 * span, k)
    k = tl.where(k >= 6.0 * span, k - 6.0 * span, k)
    return tl.where(k >= 6.0 * span, k - 6.0 * span, k)


@triton.jit
def solarize(x, threshold):
    return tl.where(x >= threshold, 1.0 - x, x)


@triton.jit
def normals(first_key, second_key, pixel, channel, RGB: tl.constexpr):
    """Standard normal numbers of a block of pixels, for three channels or for one."""
    key = first_key.to(tl.int64) | (second_key.to(tl.int64) << 32)
    group = channel // 4
    words = philox_triton.block(key, _NOISE, pixel.to(tl.int64) * 0 + group, pixel, 0)
    one, two = _normal_pair(words[0], words[1])
    three, four = _normal_pair(words[2], words[3])
    if not RGB:
        place = channel % 4
        one = tl.where(place == 1, two, one)
        one = tl.where(place == 2, three, one)
        one = tl.where(place == 3, four, one)
        two, three = one, one
    return one, two, three


@triton.jit
def _normal_pair(first, second):
    """By Box and Muller."""
    u = ((first >> 8).to(tl.int32) + 1).to(tl.float32) * _UNIT
    radius = tl.sqrt(-2.0 * tl.log(u))
    cos, sin = _cos_sin((second >> 8).to(tl.int32))
    return radius * cos, radius * sin


@triton.jit
def _cos_sin(turn):
    """Cosine and sine of 2 pi * turn * 2**-24.

    The nearest quarter of a turn is split off in integers: what is left lies within an eighth,
    where the polynomials of the Cephes library (sinf, cosf) hold. General functions would need
    memory of the thread to reduce large angles.
    """
    quarter = (turn + _EIGHTH) // _QUARTER
    x = (turn - quarter * _QUARTER).to(tl.float32) * _TURN
    z = x * x
    sin = ((-1.9515295891e-4 * z + 8.3321608736e-3) * z - 1.6666654611e-1) * z * x + x
    cos = ((2.443315711809948e-5 * z - 1.388731625493765e-3) * z + 4.166664568298827e-2) * z * z
    cos = cos - 0.5 * z + 1.0
    odd = quarter % 2 == 1
    swapped_cos = tl.where(odd, sin, cos)
    swapped_sin = tl.where(odd, cos, sin)
    negative_cos = (quarter == 1) | (quarter == 2)
    negative_sin = (quarter == 2) | (quarter == 3)
    return (
        tl.where(negative_cos, -swapped_cos, swapped_cos),
        tl.where(negative_sin, -swapped_sin, swapped_sin),
    )
