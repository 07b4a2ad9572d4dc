"""Views in a few launches: one for each entry that the policy may have (see plan.py).

A program makes a block of pixels of one view of one image. A view with neither rotation, contrast
nor blur is read and written once, by the first launch.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.augment.reference import Settings
from sslkernels.augment.triton import colour, memory, sampling
from sslkernels.augment.triton.entries import enter, erased
from sslkernels.augment.triton.memory import (
    Call,
    image_of,
    store_pixel,
    sums_of,
)
from sslkernels.augment.triton.plan import (
    CONTRAST,
    DIFF_CONTRAST,
    DOWN,
    END,
    MAY_ERASE,
    MAY_TRANSLATE,
    RIGHT,
    ROW_LENGTH,
    has_entry,
    next_entry,
)
from sslkernels.augment.triton.steps import apply_steps


def make_views(
    images: Tensor, draws: Tensor, settings: Settings, channel: int, out: Tensor
) -> None:
    """Writes the views of images [B, 1 or 3, H, W] into out [V, B, C, h, w]."""
    call = memory.prepared(images, draws, settings, channel, every_entry=False)
    for first in call.ranges():
        for entry in call.entries:
            run_segment(call, first, entry, out)


def run_segment(call: Call, first: int, entry: int, out: Tensor | None) -> None:
    """One launch. Without `out` the last segment of a view is not made: nobody needs its end."""
    images, settings = call.images, call.settings
    wrap_triton(_segment_kernel)[call.grid(first)](
        images,
        call.draws,
        call.turns,
        call.workspace,
        call.sums,
        out,
        first,
        images.shape[0],
        call.samples,
        images.shape[2],
        images.shape[3],
        *images.stride(),
        *settings.size,
        *((0,) * 5 if out is None else out.stride()),
        settings.blur_kernel,
        *memory.three(settings.mean, 0.0),
        *memory.three(settings.std, 1.0),
        settings.erase_value,
        call.channel,
        ENTRY=entry,
        STAGES=settings.stages,
        NORMALIZE=bool(settings.mean),
        RGB=images.shape[1] == 3,
        BYTES=images.dtype is torch.uint8,
        FINAL=out is not None,
        BLOCK=memory.BLOCK,
        num_warps=memory.WARPS,
    )


SIZES = [
    *("first", "batch", "samples", "height", "width", "view_height", "view_width"),
    *("kernel", "channel"),
]
"""Arguments that a kernel is not compiled anew for when they happen to be 1 or multiples of 16."""


@triton.jit(do_not_specialize=SIZES)
def _segment_kernel(
    images,
    draws,
    turns,
    workspace,
    sums,
    out,
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
    out_v,
    out_b,
    out_c,
    out_y,
    out_x,
    kernel,
    mean_r,
    mean_g,
    mean_b,
    std_r,
    std_g,
    std_b,
    erase_value,
    channel,
    ENTRY: tl.constexpr,
    STAGES: tl.constexpr,
    NORMALIZE: tl.constexpr,
    RGB: tl.constexpr,
    BYTES: tl.constexpr,
    FINAL: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """One segment of BLOCK pixels of a view: its entry, its steps, and where it ends.

    `first` is the sample of the batch that the workspace begins with.
    """
    sample, view, views = tl.program_id(1), tl.program_id(2), tl.num_programs(2)
    number = view.to(tl.int64) * batch + first + sample
    row = draws + number * ROW_LENGTH
    if not has_entry(row, ENTRY, STAGES):
        return
    following = next_entry(row, ENTRY, STAGES)
    last = following == END
    if not FINAL:
        if last:
            return

    # The pixel that a program writes, and the one that it makes: translation moves it at the end.
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = pixel < view_height * view_width
    y, x = pixel // view_width, pixel % view_width
    made_y, made_x, shown = y, x, inside
    if MAY_TRANSLATE & STAGES:
        made_y = y - tl.where(last, tl.load(row + DOWN), 0.0).to(tl.int32)
        made_x = x - tl.where(last, tl.load(row + RIGHT), 0.0).to(tl.int32)
        shown = inside & (made_y >= 0) & (made_y < view_height)
        shown = shown & (made_x >= 0) & (made_x < view_width)
    r, g, b, mean = enter(
        images + (first + sample).to(tl.int64) * stride_b,
        row,
        turns + 2 * number if turns is not None else draws,
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
        made_y,
        made_x,
        shown,
        ENTRY,
        STAGES,
        RGB,
        BYTES,
    )
    made = made_y * view_width + made_x
    r, g, b = apply_steps(r, g, b, row, mean, made, channel, following, ENTRY, STAGES, RGB)

    if workspace is not None and ENTRY < DIFF_CONTRAST:
        if not last:
            plane = view_height.to(tl.int64) * view_width
            entry = tl.program_id(0) * 0 + ENTRY
            own = image_of(workspace, entry, views, view, sample, samples, plane, STAGES, RGB)
            store_pixel(own + pixel, plane, r, g, b, inside, RGB)
            if sums is not None:
                if (following == CONTRAST) | (following == DIFF_CONTRAST):
                    kind = (following == DIFF_CONTRAST).to(tl.int32)
                    value = r
                    if RGB:
                        value = tl.where(kind == 0, colour.luma(r, g, b, RGB), r + g + b)
                    at = sums_of(sums, kind, views, view, sample, samples, tl.num_programs(0))
                    tl.store(at + tl.program_id(0), tl.sum(tl.where(inside, value, 0.0), 0))
    if FINAL:
        if last:
            if MAY_TRANSLATE & STAGES:
                r, g, b = tl.where(shown, r, 0.0), tl.where(shown, g, 0.0), tl.where(shown, b, 0.0)
            if NORMALIZE:
                r, g, b = (r - mean_r) / std_r, (g - mean_g) / std_g, (b - mean_b) / std_b
            if MAY_ERASE & STAGES:
                hidden = erased(row, y, x)
                r = tl.where(hidden, erase_value, r)
                g = tl.where(hidden, erase_value, g)
                b = tl.where(hidden, erase_value, b)
            at = out + view.to(tl.int64) * out_v + (first + sample).to(tl.int64) * out_b
            at = at + sampling.pixel_offset(y, x, out_y, out_x)
            store_pixel(at, out_c, r, g, b, inside, RGB)
