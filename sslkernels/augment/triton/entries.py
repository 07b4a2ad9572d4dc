"""What the entries of segments make of pixels, and what the end of a view hides."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import sampling
from sslkernels.augment.triton.memory import image_of, load_pixel, total_of
from sslkernels.augment.triton.plan import (
    ACROSS,
    BLUR,
    BLUR_SIGMA,
    DIFF_CONTRAST,
    ERASE_HEIGHT,
    ERASE_LEFT,
    ERASE_TOP,
    ERASE_WIDTH,
    HEIGHT,
    HORIZONTAL_FLIP,
    LEFT,
    RESIZE,
    ROTATE,
    TOP,
    VERTICAL_FLIP,
    WIDTH,
    entry_before,
)


@triton.jit
def enter(
    images,
    row,
    turn,
    workspace,
    sums,
    views,
    view,
    sample,
    samples,
    height,
    width,
    stride_c,
    stride_y,
    stride_x,
    view_height,
    view_width,
    kernel,
    y,
    x,
    shown,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
    BYTES: tl.constexpr,
):
    """What an entry makes of the pixels (y, x), and the mean that the next step needs."""
    plane = view_height.to(tl.int64) * view_width
    mean = 0.0
    if ENTRY == RESIZE:
        r, g, b = sampling.resized(
            images,
            tl.load(row + TOP),
            tl.load(row + LEFT),
            tl.load(row + HEIGHT),
            tl.load(row + WIDTH),
            tl.load(row + VERTICAL_FLIP),
            tl.load(row + HORIZONTAL_FLIP),
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
            RGB,
        )
        if BYTES:
            r, g, b = r / 255.0, g / 255.0, b / 255.0
    else:
        before = entry_before(row, ENTRY, STAGES)
        source = image_of(workspace, before, views, view, sample, samples, plane, STAGES, RGB)
        if ENTRY == ROTATE:
            cos, sin = tl.load(turn), tl.load(turn + 1)
            r, g, b = sampling.rotated(
                source, plane, y, x, shown, cos, sin, view_height, view_width, RGB
            )
        elif ENTRY == ACROSS or ENTRY == BLUR:
            r, g, b = sampling.blurred(
                source,
                plane,
                y,
                x,
                shown,
                tl.load(row + BLUR_SIGMA),
                kernel,
                view_height,
                view_width,
                ENTRY == ACROSS,
                RGB,
            )
        else:
            r, g, b = load_pixel(source + y * view_width + x, plane, shown, RGB)
            kind = 0
            values = plane.to(tl.float32)
            if ENTRY == DIFF_CONTRAST:
                kind = 1
                if RGB:
                    values = 3.0 * values
            mean = total_of(sums, kind, views, view, sample, samples, tl.num_programs(0)) / values
    return r, g, b, mean


@triton.jit
def erased(row, y, x):
    """Whether pixels lie in the box that is erased."""
    top, left = tl.load(row + ERASE_TOP), tl.load(row + ERASE_LEFT)
    rows = (y >= top) & (y < top + tl.load(row + ERASE_HEIGHT))
    return rows & (x >= left) & (x < left + tl.load(row + ERASE_WIDTH))
