"""Stages that move pixels, for blocks of output pixels: as `sslkernels.augment.spatial`.

Positions are float32, rounded where the definition rounds: an ulp of one would move a weight by
1e-5. Whatever a row of draws says, no pixel outside of an image is read.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def rounded_product(a, b):
    """A float32 product that is not fused with what it is added to."""
    return tl.fma(a, b, 0.0)


@triton.jit
def pixel_offset(y, x, stride_y, stride_x):
    return y.to(tl.int64) * stride_y + x.to(tl.int64) * stride_x


@triton.jit
def resize_scale(length, size):
    """Pixels of the box for one of the view, and half the width of the triangle of weights."""
    scale = tl.div_rn(length, length * 0.0 + size)
    return scale, tl.maximum(scale, 1.0)


@triton.jit
def resize_taps(place, length, scale, support, size, flip):
    """Of places in a view: the first tap, the end, and the centre, in pixels of the box."""
    turned = tl.where(flip != 0.0, size - 1 - place, place)
    centre = rounded_product(turned.to(tl.float32) + 0.5, scale)
    first = tl.maximum(centre - support + 0.5, 0.0).to(tl.int32)
    end = tl.minimum(centre + support + 0.5, length).to(tl.int32)
    return first, end, centre


@triton.jit
def most_taps(support, side):
    return tl.minimum((2.0 * support).to(tl.int32) + 1, side)


@triton.jit
def tap_weight(position, end, centre, inverse):
    """Not yet divided by the sum of all."""
    weight = 1.0 - tl.abs((position.to(tl.float32) - centre + 0.5) * inverse)
    return tl.where(position < end, tl.maximum(weight, 0.0), 0.0)


@triton.jit
def tap_total(first, end, centre, inverse, count):
    total = tl.zeros_like(centre)
    for t in range(count):
        total += tap_weight(first + t, end, centre, inverse)
    return total


@triton.jit
def resized(
    image,
    box_top,
    box_left,
    box_height,
    box_width,
    vertical_flip,
    horizontal_flip,
    height,
    width,
    stride_c,
    stride_y,
    stride_x,
    view_height,
    view_width,
    y,
    x,
    shown,
    RGB: tl.constexpr,
):
    """The pixels (y, x) of a crop, resized and flipped; bytes as numbers up to 255."""
    scale_y, support_y = resize_scale(box_height, view_height)
    scale_x, support_x = resize_scale(box_width, view_width)
    inverse_y = tl.div_rn(support_y * 0.0 + 1.0, support_y)
    inverse_x = tl.div_rn(support_x * 0.0 + 1.0, support_x)
    first_y, end_y, centre_y = resize_taps(
        y, box_height, scale_y, support_y, view_height, vertical_flip
    )
    first_x, end_x, centre_x = resize_taps(
        x, box_width, scale_x, support_x, view_width, horizontal_flip
    )
    count_y, count_x = most_taps(support_y, height), most_taps(support_x, width)
    top, left = box_top.to(tl.int32), box_left.to(tl.int32)
    r = tl.zeros_like(centre_x)
    g = r
    b = r
    for t in range(count_y):
        weight_y = tap_weight(first_y + t, end_y, centre_y, inverse_y)
        row = top + first_y + t
        in_rows = shown & (first_y + t < end_y) & (row >= 0) & (row < height)
        row_r = tl.zeros_like(r)
        row_g = row_r
        row_b = row_r
        for s in range(count_x):
            weight = tap_weight(first_x + s, end_x, centre_x, inverse_x)
            column = left + first_x + s
            mask = in_rows & (first_x + s < end_x) & (column >= 0) & (column < width)
            at = image + pixel_offset(row, column, stride_y, stride_x)
            row_r += weight * tl.load(at, mask=mask, other=0).to(tl.float32)
            if RGB:
                row_g += weight * tl.load(at + stride_c, mask=mask, other=0).to(tl.float32)
                row_b += weight * tl.load(at + 2 * stride_c, mask=mask, other=0).to(tl.float32)
        r += weight_y * row_r
        g += weight_y * row_g
        b += weight_y * row_b
    total = tap_total(first_y, end_y, centre_y, inverse_y, count_y)
    total *= tap_total(first_x, end_x, centre_x, inverse_x, count_x)
    return r / total, g / total, b / total


@triton.jit
def rotation_source(y, x, cos, sin, view_height, view_width):
    """Where the pixels of a rotated view come from, as (row, column)."""
    middle_y = (view_height - 1).to(tl.float32) / 2.0
    middle_x = (view_width - 1).to(tl.float32) / 2.0
    down = y.to(tl.float32) - middle_y
    right = x.to(tl.float32) - middle_x
    from_x = rounded_product(right, cos) - rounded_product(down, sin) + middle_x
    from_y = rounded_product(right, sin) + rounded_product(down, cos) + middle_y
    return from_y, from_x


@triton.jit
def rotated(view, plane, y, x, shown, cos, sin, view_height, view_width, RGB: tl.constexpr):
    """The pixels (y, x) of a view in the workspace, turned about its centre."""
    from_y, from_x = rotation_source(y, x, cos, sin, view_height, view_width)
    top, left = tl.floor(from_y), tl.floor(from_x)
    r = tl.zeros_like(from_x)
    g = r
    b = r
    for corner in tl.static_range(4):
        row, column = top + corner // 2, left + corner % 2
        weight = (1.0 - tl.abs(from_x - column)) * (1.0 - tl.abs(from_y - row))
        mask = shown & (column >= 0.0) & (column < view_width) & (row >= 0.0) & (row < view_height)
        # Positions of lanes that are not shown may be any.
        at = tl.where(mask, row, 0.0).to(tl.int32) * view_width
        at = view + at + tl.where(mask, column, 0.0).to(tl.int32)
        r += weight * tl.load(at, mask=mask, other=0.0)
        if RGB:
            g += weight * tl.load(at + plane, mask=mask, other=0.0)
            b += weight * tl.load(at + 2 * plane, mask=mask, other=0.0)
    return r, g, b


@triton.jit
def blur_radius(sigma, kernel):
    """Weights farther away are below 2**-24 of the middle one."""
    return tl.minimum(kernel // 2, (tl.minimum(sigma, kernel) * 5.8).to(tl.int32) + 1)


@triton.jit
def blur_weight(offset, sigma):
    distance = offset / sigma
    return tl.exp(-0.5 * distance * distance)


@triton.jit
def mirrored(place, side):
    """Mirrored at the border, whose pixels are not repeated."""
    place = tl.abs(place)
    return tl.minimum(place, 2 * (side - 1) - place)


@triton.jit
def blurred(
    view,
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
    """The pixels (y, x) of a view in the workspace, blurred along its rows or its columns."""
    radius = blur_radius(sigma, kernel)
    r = tl.zeros(y.shape, tl.float32)
    g = r
    b = r
    total = 0.0
    for offset in range(-radius, radius + 1):
        weight = blur_weight(offset, sigma)
        total += weight
        if ACROSS:
            at = view + y * view_width + mirrored(x + offset, view_width)
        else:
            at = view + mirrored(y + offset, view_height) * view_width + x
        r += weight * tl.load(at, mask=shown, other=0.0)
        if RGB:
            g += weight * tl.load(at + plane, mask=shown, other=0.0)
            b += weight * tl.load(at + 2 * plane, mask=shown, other=0.0)
    return r / total, g / total, b / total
