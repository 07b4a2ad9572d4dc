"""The gradient of views with respect to images: the segments of plan.py, last to first.

The forward is run once more as far as its values are needed. The gradient of what an entry makes
then takes the place of what its segment left in the workspace: nobody needs that any more. Last,
each pixel of an image gathers from all views. No atomics, so it is the same on every run.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.augment.layout import Stage
from sslkernels.augment.reference import Settings
from sslkernels.augment.triton import memory, reverse_sampling, sampling
from sslkernels.augment.triton.entries import enter
from sslkernels.augment.triton.forward import SIZES, run_segment
from sslkernels.augment.triton.memory import (
    Call,
    image_of,
    store_pixel,
    sums_of,
)
from sslkernels.augment.triton.plan import (
    ACROSS,
    CONTRAST,
    DIFF_CONTRAST,
    END,
    HEIGHT,
    HORIZONTAL_FLIP,
    LEFT,
    MAY_COLOUR,
    MAY_NOISE,
    MAY_SOLARIZE,
    RESIZE,
    ROW_LENGTH,
    TOP,
    VERTICAL_FLIP,
    WIDTH,
    has_entry,
    next_entry,
)
from sslkernels.augment.triton.reverse_entries import from_segment, from_view
from sslkernels.augment.triton.reverse_steps import reverse_steps

_CURVED = Stage.COLOUR | Stage.SOLARIZE | Stage.NOISE
"""Stages whose gradient depends on their input."""

_IMAGE_BLOCK = 128
"""Pixels of an image, one for a thread: with two, weights and addresses would not fit into the
registers of sm_90."""


def pull_back(
    grad: Tensor, images: Tensor, draws: Tensor, settings: Settings, channel: int, out: Tensor
) -> None:
    """Writes the gradient of images [B, 1 or 3, H, W] into `out`; grad: [V, B, C, h, w]."""
    call = memory.prepared(images, draws, settings, channel, every_entry=True)
    for first in call.ranges():
        if Stage(settings.stages) & _CURVED:
            for entry in call.entries[:-1]:
                run_segment(call, first, entry, None)
        for entry in reversed(call.entries):
            _reverse_segment(call, first, entry, grad)
        _reverse_resize(call, first, out)


def _reverse_segment(call: Call, first: int, entry: int, grad: Tensor) -> None:
    images, settings = call.images, call.settings
    wrap_triton(_reverse_segment_kernel)[call.grid(first)](
        images,
        call.draws,
        call.turns,
        call.workspace,
        call.sums,
        grad,
        first,
        images.shape[0],
        call.samples,
        images.shape[2],
        images.shape[3],
        *images.stride(),
        *settings.size,
        *grad.stride()[:3],
        settings.blur_kernel,
        *memory.three(settings.std, 1.0),
        call.channel,
        ENTRY=entry,
        STAGES=settings.stages,
        RGB=images.shape[1] == 3,
        BLOCK=memory.BLOCK,
        num_warps=memory.WARPS,
    )


def _reverse_resize(call: Call, first: int, out: Tensor) -> None:
    batch, channels, height, width = call.images.shape
    _, samples, views = call.grid(first)
    blocks = triton.cdiv(height * width, _IMAGE_BLOCK)
    wrap_triton(_reverse_resize_kernel)[(blocks, samples)](
        call.draws,
        call.workspace,
        out,
        first,
        batch,
        call.samples,
        views,
        height,
        width,
        *out.stride(),
        *call.settings.size,
        STAGES=call.settings.stages,
        RGB=channels == 3,
        BLOCK=_IMAGE_BLOCK,
        num_warps=memory.WARPS,
    )


@triton.jit(do_not_specialize=SIZES)
def _reverse_segment_kernel(
    images,
    draws,
    turns,
    workspace,
    sums,
    grad,
    first,
    batch,
    samples,
    height,
    width,
    stride_b,
    stride_c,
    stride_y,
    stride_x,
    view_height,
    view_width,
    grad_v,
    grad_b,
    grad_c,
    kernel,
    std_r,
    std_g,
    std_b,
    channel,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of what an entry made of BLOCK pixels of a view."""
    sample, view, views = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    number = view.to(tl.int64) * batch + first + sample
    row = draws + number * ROW_LENGTH
    if not has_entry(row, ENTRY, STAGES):
        return
    following = next_entry(row, ENTRY, STAGES)
    turn = turns + 2 * number if turns is not None else draws
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < view_height * view_width
    y, x = pixel // view_width, pixel % view_width
    if following == END:
        at = grad + view.to(tl.int64) * grad_v + (first + sample).to(tl.int64) * grad_b
        dr, dg, db = from_view(
            at, row, y, x, inside, view_height, view_width, grad_c, std_r, std_g, std_b, STAGES, RGB
        )
    else:
        dr, dg, db = from_segment(
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
            ENTRY,
            STAGES,
            RGB,
        )

    r = tl.zeros_like(dr)
    g = r
    b = r
    mean = 0.0
    curved = MAY_SOLARIZE & STAGES or MAY_NOISE & STAGES
    if ENTRY <= CONTRAST:
        curved = curved or MAY_COLOUR & STAGES
    if ENTRY == ACROSS or ENTRY == DIFF_CONTRAST:
        curved = False
    if curved:
        r, g, b, mean = enter(
            images + (first + sample).to(tl.int64) * stride_b,
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
            inside,
            ENTRY,
            STAGES,
            RGB,
            False,
        )
    dr, dg, db, to_mean = reverse_steps(
        r, g, b, dr, dg, db, row, mean, pixel, channel, following, ENTRY, STAGES, RGB
    )
    if ENTRY == CONTRAST or ENTRY == DIFF_CONTRAST:
        kind = 2
        if ENTRY == DIFF_CONTRAST:
            kind = 3
        at = sums_of(sums, kind, views, view, sample, samples, tl.num_programs(0))
        tl.store(at + tl.program_id(0), tl.sum(tl.where(inside, to_mean, 0.0), 0))
    if ENTRY == RESIZE:
        total = reverse_sampling.resize_totals(
            y,
            x,
            tl.load(row + HEIGHT),
            tl.load(row + WIDTH),
            tl.load(row + VERTICAL_FLIP),
            tl.load(row + HORIZONTAL_FLIP),
            height,
            width,
            view_height,
            view_width,
        )
        dr, dg, db = dr / total, dg / total, db / total
    plane = view_height.to(tl.int64) * view_width
    entry = tl.program_id(0) * 0 + ENTRY
    own = image_of(workspace, entry, views, view, sample, samples, plane, STAGES, RGB)
    store_pixel(own + pixel, plane, dr, dg, db, inside, RGB)


@triton.jit(do_not_specialize=[*SIZES, "views"])
def _reverse_resize_kernel(
    draws,
    workspace,
    out,
    first,
    batch,
    samples,
    views,
    height,
    width,
    stride_b,
    stride_c,
    stride_y,
    stride_x,
    view_height,
    view_width,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """The gradient of BLOCK pixels of an image, from all its views."""
    sample = tl.program_id(1)
    pixel = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < height.to(tl.int64) * width
    y, x = (pixel // width).to(tl.int32), (pixel % width).to(tl.int32)
    plane = view_height.to(tl.int64) * view_width
    entry = tl.program_id(0) * 0 + RESIZE
    r = tl.zeros((BLOCK,), tl.float32)
    g = r
    b = r
    for view in range(views):
        row = draws + ((entry + view).to(tl.int64) * batch + first + sample) * ROW_LENGTH
        view_r, view_g, view_b = reverse_sampling.unresized(
            image_of(workspace, entry, views, view, sample, samples, plane, STAGES, RGB),
            plane,
            tl.load(row + TOP),
            tl.load(row + LEFT),
            tl.load(row + HEIGHT),
            tl.load(row + WIDTH),
            tl.load(row + VERTICAL_FLIP),
            tl.load(row + HORIZONTAL_FLIP),
            view_height,
            view_width,
            y,
            x,
            inside,
            RGB,
        )
        r += view_r
        g += view_g
        b += view_b
    at = out + (first + sample).to(tl.int64) * stride_b
    at = at + sampling.pixel_offset(y, x, stride_y, stride_x)
    store_pixel(at, stride_c, r, g, b, inside, RGB)
