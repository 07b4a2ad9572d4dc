"""Gradients on their way back from where a segment ended."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.triton import reverse_sampling
from sslkernels.augment.triton.colour import BLUE, GREEN, RED
from sslkernels.augment.triton.entries import erased
from sslkernels.augment.triton.memory import image_of, load_pixel, total_of
from sslkernels.augment.triton.plan import (
    ACROSS,
    BLUR,
    BLUR_SIGMA,
    CONTRAST,
    DIFF_CONTRAST,
    DOWN,
    MAY_BLUR,
    MAY_COLOUR,
    MAY_DIFF_COLOUR,
    MAY_ERASE,
    MAY_ROTATE,
    MAY_TRANSLATE,
    RESIZE,
    RIGHT,
    ROTATE,
)


@triton.jit
def from_view(grad, row, y, x, inside, view_height, view_width, stride_c, std_r, std_g, std_b,
               STAGES: tl.constexpr, RGB: tl.constexpr):  # fmt: skip
    """Back through erasing, normalisation and translation."""
    if MAY_TRANSLATE & STAGES:
        y = y + tl.load(row + DOWN).to(tl.int32)
        x = x + tl.load(row + RIGHT).to(tl.int32)
        inside = inside & (y >= 0) & (y < view_height) & (x >= 0) & (x < view_width)
    if MAY_ERASE & STAGES:
        inside = inside & (erased(row, y, x) == 0)
    r, g, b = load_pixel(grad + y * view_width + x, stride_c, inside, RGB)
    return r / std_r, g / std_g, b / std_b


@triton.jit
def from_segment(
    workspace,
    sums,
    row,
    turn,
    following,
    views,
    view,
    sample,
    samples,
    y,
    x,
    inside,
    view_height,
    view_width,
    kernel,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
):
    """Back through the entry of the following segment."""
    plane = view_height.to(tl.int64) * view_width
    source = image_of(workspace, following, views, view, sample, samples, plane, STAGES, RGB)
    r = tl.zeros(y.shape, tl.float32)
    g = r
    b = r
    if ENTRY == RESIZE and MAY_ROTATE & STAGES:
        if following == ROTATE:
            cos, sin = tl.load(turn), tl.load(turn + 1)
            r, g, b = reverse_sampling.unrotated(
                source, plane, y, x, inside, cos, sin, view_height, view_width, RGB
            )
    if ENTRY <= ACROSS and MAY_BLUR & STAGES:
        if (following == ACROSS) | (following == BLUR):
            r, g, b = reverse_sampling.unblurred(
                source,
                plane,
                y,
                x,
                inside,
                tl.load(row + BLUR_SIGMA),
                kernel,
                view_height,
                view_width,
                ENTRY != ACROSS,
                RGB,
            )
    if ENTRY <= ROTATE and MAY_COLOUR & STAGES:
        if following == CONTRAST:
            r, g, b = load_pixel(source + y * view_width + x, plane, inside, RGB)
            share = total_of(sums, 2, views, view, sample, samples, tl.num_programs(0))
            share = share / plane.to(tl.float32)
            if RGB:
                r, g, b = r + share * RED, g + share * GREEN, b + share * BLUE
            else:
                r += share
    if ENTRY <= BLUR and MAY_DIFF_COLOUR & STAGES:
        if following == DIFF_CONTRAST:
            r, g, b = load_pixel(source + y * view_width + x, plane, inside, RGB)
            share = total_of(sums, 3, views, view, sample, samples, tl.num_programs(0))
            share = share / plane.to(tl.float32)
            if RGB:
                share = share / 3.0
            r, g, b = r + share, g + share, b + share
    return r, g, b
