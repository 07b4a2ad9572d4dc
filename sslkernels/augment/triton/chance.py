"""What draws make of random words, by the rules of `sslkernels.augment.draws`.

Arithmetic is float64. Where a product is added to, it is exact: fused or not is the same.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import torch
import triton
import triton.language as tl

from sslkernels import philox_triton
from sslkernels.augment import draws as definition
from sslkernels.philox import Stream

_AUGMENT = tl.constexpr(int(Stream.AUGMENT))
_ATTEMPTS = tl.constexpr(definition.ATTEMPTS)
_CROP = tl.constexpr(definition.CROP)
_ERASE = tl.constexpr(definition.ERASE)
_UNIT = tl.constexpr(2.0**-24)
_P6, _P5, _P4, _P3, _P2, _P1, _P0 = (
    tl.constexpr(c) for c in torch.tensor(definition.EXP2, dtype=torch.float32).tolist()
)


@triton.jit
def block(seed, epoch, view, ids, draw):
    return philox_triton.block(
        seed, _AUGMENT, ids, ids.to(tl.int32) * 0 + 65536 * view + draw, epoch
    )


@triton.jit
def double(x):
    return tl.to_tensor(x).to(tl.float64)


@triton.jit
def between(word, low, span):
    """float32, uniform on [low, low + span]."""
    uniform = (word >> 8).to(tl.float64) * _UNIT
    return (double(low) + double(span) * uniform).to(tl.float32)


@triton.jit
def _horner(value, x, coefficient):
    return (value * x + coefficient).to(tl.float32).to(tl.float64)


@triton.jit
def _exp2(x):
    """2**x in float64 of float32."""
    wide = x.to(tl.float64)
    whole = tl.floor(wide + 0.5)
    part = wide - whole
    value = tl.zeros_like(part) + _P6
    value = _horner(value, part, _P5)
    value = _horner(value, part, _P4)
    value = _horner(value, part, _P3)
    value = _horner(value, part, _P2)
    value = _horner(value, part, _P1)
    value = _horner(value, part, _P0)
    power = ((whole.to(tl.int64) + 1023) << 52).to(tl.float64, bitcast=True)
    return value * power


@triton.jit
def _side(area):
    return tl.floor(tl.sqrt(area) + 0.5)


@triton.jit
def attempts(
    seed,
    epoch,
    view,
    ids,
    height,
    width,
    scale_low,
    scale_span,
    log_ratio_low,
    log_ratio_span,
    ERASE: tl.constexpr,
):
    """The first box of random area and ratio that fits; and whether one did.

    For a crop the ratio is width / height and it may be as large as the image, for erasing it is
    height / width and the box is smaller than the view.
    """
    first = _CROP
    if ERASE:
        first = _ERASE
    area_of_all = height.to(tl.float64) * width.to(tl.float64)
    found = ids < ids
    top = ids.to(tl.int32) * 0
    left = top
    box_height = top
    box_width = top
    for attempt in range(_ATTEMPTS):
        words = block(seed, epoch, view, ids, first + attempt)
        area = area_of_all * between(words[0], scale_low, scale_span).to(tl.float64)
        ratio = _exp2(between(words[1], log_ratio_low, log_ratio_span))
        if ERASE:
            down = _side(area * ratio)
            across = _side(area / ratio)
            fits = (down < height) & (across < width)
        else:
            down = _side(area / ratio)
            across = _side(area * ratio)
            fits = (across >= 1) & (across <= width) & (down >= 1) & (down <= height)
        new = fits & (found == 0)
        # What does not fit may be too large for an integer.
        down_whole = tl.where(fits, down, 0.0).to(tl.int32)
        across_whole = tl.where(fits, across, 0.0).to(tl.int32)
        top = tl.where(new, philox_triton.below(words[2], height - down_whole + 1), top)
        left = tl.where(new, philox_triton.below(words[3], width - across_whole + 1), left)
        box_height = tl.where(new, down_whole, box_height)
        box_width = tl.where(new, across_whole, box_width)
        found = found | fits
    return top, left, box_height, box_width, found


@triton.jit
def middle(height, width, ratio_low, ratio_high):
    """Height and width of the largest box in the middle with a ratio that is allowed."""
    down, across = height.to(tl.float64), width.to(tl.float64)
    low, high = double(ratio_low), double(ratio_high)
    ratio = across / down
    narrow = tl.maximum(tl.floor(across / low + 0.5), 1.0)
    wide = tl.maximum(tl.floor(down * high + 0.5), 1.0)
    box_height = tl.where(ratio < low, narrow, down)
    box_width = tl.where((ratio >= low) & (ratio > high), wide, across)
    return box_height.to(tl.int32), box_width.to(tl.int32)


@triton.jit
def cutout(word, share, side):
    """Begin and length of a span around any place, cut off at the border."""
    length = tl.floor(double(share) * side.to(tl.float64) + 0.5).to(tl.int32)
    begin = philox_triton.below(word, side + 1 - length % 2) - length // 2
    end = tl.minimum(begin + length, side)
    begin = tl.maximum(begin, 0)
    return begin, end - begin


@triton.jit
def shift(word, share, side):
    most = tl.floor(double(share) * side.to(tl.float64) + 0.5).to(tl.int32)
    return philox_triton.below(word, 2 * most + 1) - most


@triton.jit
def permutation(number):
    """Four numbers in the order that has this place among the 24, in lexicographic order."""
    first = number // 6
    second = number % 6 // 2
    second += (second >= first).to(tl.int32)
    third = number % 2
    third += (third >= tl.minimum(first, second)).to(tl.int32)
    third += (third >= tl.maximum(first, second)).to(tl.int32)
    return first, second, third, 6 - first - second - third
