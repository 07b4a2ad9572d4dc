"""The transposes of what moves pixels, as sums over the pixels that a pixel went to.

Each program gathers what it writes: no atomics, and the same result on every run.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import sampling


@triton.jit
def unrotated(gradient, plane, y, x, shown, cos, sin, view_height, view_width, RGB: tl.constexpr):
    """Of the gradient of a turned view, what goes to the pixels (y, x) of the view as it was.

    A pixel went to those whose sources lie less than a pixel from it, on either axis: they lie
    within the square root of 2 of where it was turned to itself.
    """
    middle_y = (view_height - 1).to(tl.float32) / 2.0
    middle_x = (view_width - 1).to(tl.float32) / 2.0
    down, right = y.to(tl.float32) - middle_y, x.to(tl.float32) - middle_x
    to_y = tl.floor(cos * down - sin * right + middle_y).to(tl.int32)
    to_x = tl.floor(cos * right + sin * down + middle_x).to(tl.int32)
    r = tl.zeros_like(down)
    g = r
    b = r
    for place in range(16):
        row, column = to_y + place // 4 - 1, to_x + place % 4 - 1
        from_y, from_x = sampling.rotation_source(row, column, cos, sin, view_height, view_width)
        weight_y = tl.maximum(1.0 - tl.abs(from_y - y.to(tl.float32)), 0.0)
        weight = weight_y * tl.maximum(1.0 - tl.abs(from_x - x.to(tl.float32)), 0.0)
        mask = shown & (row >= 0) & (row < view_height) & (column >= 0) & (column < view_width)
        mask = mask & (weight > 0.0)
        at = gradient + row * view_width + column
        r += weight * tl.load(at, mask=mask, other=0.0)
        if RGB:
            g += weight * tl.load(at + plane, mask=mask, other=0.0)
            b += weight * tl.load(at + 2 * plane, mask=mask, other=0.0)
    return r, g, b


@triton.jit
def unblurred(
    gradient,
    plane,
    y,
    x,
    shown,
    sigma,
    kernel,
    view_height,
    view_width,
    ACROSS: tl.constexpr,
    RGB: tl.constexpr,
):
    """Of the gradient of a blurred view, what goes to the pixels (y, x) of the view as it was.

    A pixel was read as itself and, near the border, as one or two of its mirror images.
    """
    radius = sampling.blur_radius(sigma, kernel)
    if ACROSS:
        place, side, stride, line = x, view_width, 1, y * view_width
    else:
        place, side, stride, line = y, view_height, view_width, x
    r = tl.zeros(y.shape, tl.float32)
    g = r
    b = r
    total = 0.0
    for offset in range(-radius, radius + 1):
        weight = sampling.blur_weight(offset, sigma)
        total += weight
        for image in tl.static_range(3):
            mask = shown
            target = place + offset
            if image == 1:
                mask = mask & (place > 0)
                target = offset - place
            if image == 2:
                mask = mask & (place < side - 1)
                target = 2 * (side - 1) - place + offset
            mask = mask & (target >= 0) & (target < side)
            at = gradient + line + target * stride
            r += weight * tl.load(at, mask=mask, other=0.0)
            if RGB:
                g += weight * tl.load(at + plane, mask=mask, other=0.0)
                b += weight * tl.load(at + 2 * plane, mask=mask, other=0.0)
    return r / total, g / total, b / total


@triton.jit
def resize_totals(
    y,
    x,
    box_height,
    box_width,
    vertical_flip,
    horizontal_flip,
    height,
    width,
    view_height,
    view_width,
):
    """The sum of the weights of the taps of the pixels (y, x)."""
    total = _axis_total(y, box_height, view_height, vertical_flip, height)
    return total * _axis_total(x, box_width, view_width, horizontal_flip, width)


@triton.jit
def _axis_total(place, length, size, flip, side):
    scale, support = sampling.resize_scale(length, size)
    inverse = tl.div_rn(support * 0.0 + 1.0, support)
    first, end, centre = sampling.resize_taps(place, length, scale, support, size, flip)
    count = sampling.most_taps(support, side)
    return sampling.tap_total(first, end, centre, inverse, count)


@triton.jit
def _targets(position, length, scale, support, size):
    """Of positions in a box: the first place in a view, not flipped, that may have them as a tap,
    and how many places may."""
    first = tl.floor((position.to(tl.float32) + 0.5 - support) / scale - 0.5).to(tl.int32)
    count = (2.0 * support / scale).to(tl.int32) + 2
    return tl.maximum(first, 0), tl.minimum(count, size)


@triton.jit
def _target_weight(position, place, length, scale, support, inverse, size):
    """The weight of a position in a place, and whether there is such a place."""
    first, end, centre = sampling.resize_taps(place, length, scale, support, size, 0.0)
    real = (place >= 0) & (place < size) & (position >= first) & (position < end)
    weight = sampling.tap_weight(position, end, centre, inverse)
    return tl.where(real, weight, 0.0), real


@triton.jit
def unresized(
    gradient,
    plane,
    box_top,
    box_left,
    box_height,
    box_width,
    vertical_flip,
    horizontal_flip,
    view_height,
    view_width,
    y,
    x,
    shown,
    RGB: tl.constexpr,
):
    """Of the gradient of a view, divided by `resize_totals`, what goes to the image's (y, x)."""
    scale_y, support_y = sampling.resize_scale(box_height, view_height)
    scale_x, support_x = sampling.resize_scale(box_width, view_width)
    inverse_y = tl.div_rn(support_y * 0.0 + 1.0, support_y)
    inverse_x = tl.div_rn(support_x * 0.0 + 1.0, support_x)
    position_y, position_x = y - box_top.to(tl.int32), x - box_left.to(tl.int32)
    cropped = shown & (position_y >= 0) & (position_y < box_height)
    cropped = cropped & (position_x >= 0) & (position_x < box_width)
    first_y, count_y = _targets(position_y, box_height, scale_y, support_y, view_height)
    first_x, count_x = _targets(position_x, box_width, scale_x, support_x, view_width)
    count_y = tl.where(tl.max(cropped.to(tl.int32), 0) > 0, count_y, 0)
    r = tl.zeros(y.shape, tl.float32)
    g = r
    b = r
    for t in range(count_y):
        row = first_y + t
        weight_y, in_rows = _target_weight(
            position_y, row, box_height, scale_y, support_y, inverse_y, view_height
        )
        row = tl.where(vertical_flip != 0.0, view_height - 1 - row, row)
        in_rows = in_rows & cropped
        for s in range(count_x):
            column = first_x + s
            weight, in_columns = _target_weight(
                position_x, column, box_width, scale_x, support_x, inverse_x, view_width
            )
            column = tl.where(horizontal_flip != 0.0, view_width - 1 - column, column)
            weight *= weight_y
            at = gradient + row * view_width + column
            mask = in_rows & in_columns
            r += weight * tl.load(at, mask=mask, other=0.0)
            if RGB:
                g += weight * tl.load(at + plane, mask=mask, other=0.0)
                b += weight * tl.load(at + 2 * plane, mask=mask, other=0.0)
    return r, g, b
