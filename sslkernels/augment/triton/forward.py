"""Views in a few launches: one for each entry that the policy may have (see plan.py).

A program makes a block of pixels of one view of one image. A view with neither rotation, contrast
nor blur is read and written once, by the first launch; others lie in the workspace between theirs.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import dataclasses
import math

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.augment.layout import Slot, Stage
from sslkernels.augment.reference import Settings
from sslkernels.augment.triton import colour, plan, sampling
from sslkernels.augment.triton.plan import (
    BLUR,
    BLUR_SIGMA,
    CONTRAST,
    DIFF_CONTRAST,
    DOWN,
    END,
    ERASE_HEIGHT,
    ERASE_LEFT,
    ERASE_TOP,
    ERASE_WIDTH,
    HEIGHT,
    HORIZONTAL_FLIP,
    LEFT,
    MAY_ERASE,
    MAY_TRANSLATE,
    RESIZE,
    RIGHT,
    ROTATE,
    ROW_LENGTH,
    TOP,
    VERTICAL_FLIP,
    WIDTH,
    has_entry,
    next_entry,
)
from sslkernels.augment.triton.steps import apply_steps

WORKSPACE_MIB = 128.0
"""Views that do not fit into the workspace are made some samples at a time."""

BLOCK, WARPS = 256, 4
"""Two pixels of three channels each for a thread: six loads on their way, and no spill."""

_LONGEST_GRID = 65535  # along its second and third axis
_SUMS = 256  # of blocks, added at a time


@dataclasses.dataclass
class Batch:
    """The images and draws of a call, and the memory between its launches.

    `workspace` has as many buffers as a view needs, [buffers, V, samples, C, h, w]; `sums` what
    each block of a view adds to the mean luma and to the mean of all, [2, V, samples, blocks].
    """

    images: Tensor
    draws: Tensor
    settings: Settings
    turns: Tensor | None
    workspace: Tensor | None
    sums: Tensor | None
    samples: int
    channel: int

    @property
    def blocks(self) -> int:
        height, width = self.settings.size
        return triton.cdiv(height * width, BLOCK)

    @property
    def entries(self) -> list[int]:
        """Those that a view may have."""
        stages = Stage(self.settings.stages)
        may = {
            plan.ROTATE.value: Stage.ROTATION,
            plan.CONTRAST.value: Stage.COLOUR,
            plan.BLUR.value: Stage.BLUR,
            plan.DIFF_CONTRAST.value: Stage.DIFF_COLOUR,
        }
        return [plan.RESIZE.value, *(entry for entry, stage in may.items() if stage in stages)]


def prepared(
    images: Tensor, draws: Tensor, settings: Settings, buffers: int, channel: int
) -> Batch:
    """`buffers`: how many images the launches keep of each view."""
    batch, channels = images.shape[:2]
    views, (height, width) = draws.shape[0], settings.size
    stages = Stage(settings.stages)
    turns = None
    if Stage.ROTATION in stages:
        radians = draws[:, :, Slot.ROTATION].double() * (math.pi / 180)
        turns = torch.stack([torch.cos(radians), torch.sin(radians)], dim=2).float()
    samples = min(batch, _LONGEST_GRID)
    if buffers:
        bytes_each = 4 * buffers * views * channels * height * width
        samples = min(samples, max(1, int(WORKSPACE_MIB * 2**20) // bytes_each))
    empty = {"dtype": torch.float32, "device": images.device}
    shape = (buffers, views, samples, channels, height, width)
    workspace = torch.empty(shape, **empty) if buffers else None
    sums = None
    if stages & (Stage.COLOUR | Stage.DIFF_COLOUR):
        sums = torch.empty((2, views, samples, triton.cdiv(height * width, BLOCK)), **empty)
    return Batch(images, draws, settings, turns, workspace, sums, samples, channel)


def make_views(
    images: Tensor, draws: Tensor, settings: Settings, out: Tensor, channel: int
) -> None:
    """Writes the views of images [B, 1 or 3, H, W] into out [V, B, C, h, w].

    `channel` is the number of the first channel in the images that these are part of.
    """
    stages = Stage(settings.stages)
    moved = bool(stages & (Stage.ROTATION | Stage.BLUR))
    kept = bool(stages & (Stage.COLOUR | Stage.DIFF_COLOUR))
    call = prepared(images, draws, settings, 2 if moved else int(kept), channel)
    for first in range(0, images.shape[0], call.samples):
        for entry in call.entries:
            if entry == plan.BLUR.value:
                blur_across(call, first)
            run_segment(call, first, entry, out)


def grid(call: Batch, first: int) -> tuple[int, int, int]:
    samples = min(call.samples, call.images.shape[0] - first)
    return call.blocks, samples, call.draws.shape[0]


def blur_across(call: Batch, first: int) -> None:
    """The first half of a blur, from one buffer to the other."""
    height, width = call.settings.size
    wrap_triton(_blur_across_kernel)[grid(call, first)](
        call.draws,
        call.workspace,
        first,
        call.images.shape[0],
        call.samples,
        height,
        width,
        call.settings.blur_kernel,
        STAGES=call.settings.stages,
        RGB=call.images.shape[1] == 3,
        BLOCK=BLOCK,
        num_warps=WARPS,
    )


def run_segment(call: Batch, first: int, entry: int, out: Tensor) -> None:
    images, settings = call.images, call.settings
    mean, std = three(settings.mean, 0.0), three(settings.std, 1.0)
    wrap_triton(_segment_kernel)[grid(call, first)](
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
        *out.stride(),
        settings.blur_kernel,
        *mean,
        *std,
        settings.erase_value,
        call.channel,
        ENTRY=entry,
        STAGES=settings.stages,
        NORMALIZE=bool(settings.mean),
        RGB=images.shape[1] == 3,
        BYTES=images.dtype is torch.uint8,
        BLOCK=BLOCK,
        SUMS=_SUMS,
        num_warps=WARPS,
    )


def three(values: tuple[float, ...], default: float) -> tuple[float, float, float]:
    """Of an image with one channel the first alone has a use."""
    first, second, third, *_ = (*values, default, default, default)
    return first, second, third


@triton.jit
def view_of(buffer, view, sample, samples, plane, RGB: tl.constexpr):
    """Where an image lies in the workspace, in pixels from its beginning."""
    number = (buffer.to(tl.int64) * tl.num_programs(2) + view) * samples + sample
    values = plane
    if RGB:
        values = 3 * plane
    return number * values


@triton.jit
def mean_of(sums, KIND: tl.constexpr, view, sample, samples, blocks, values, SUMS: tl.constexpr):
    """The mean of a view's numbers, from the sums of its blocks."""
    own = sums + ((KIND * tl.num_programs(2) + view).to(tl.int64) * samples + sample) * blocks
    total = tl.zeros((SUMS,), tl.float32)
    for start in range(0, blocks, SUMS):
        at = start + tl.arange(0, SUMS)
        total += tl.load(own + at, mask=at < blocks, other=0.0)
    return tl.sum(total, 0) / values.to(tl.float32)


@triton.jit
def load_pixel(at, plane, mask, RGB: tl.constexpr):
    r = tl.load(at, mask=mask, other=0.0)
    g = r
    b = r
    if RGB:
        g = tl.load(at + plane, mask=mask, other=0.0)
        b = tl.load(at + 2 * plane, mask=mask, other=0.0)
    return r, g, b


@triton.jit
def store_pixel(at, plane, r, g, b, mask, RGB: tl.constexpr):
    tl.store(at, r, mask=mask)
    if RGB:
        tl.store(at + plane, g, mask=mask)
        tl.store(at + 2 * plane, b, mask=mask)


_SIZES = ["first", "batch", "samples", "height", "width", "view_height", "view_width"]


@triton.jit(do_not_specialize=[*_SIZES, "kernel"])
def _blur_across_kernel(
    draws,
    workspace,
    first,
    batch,
    samples,
    view_height,
    view_width,
    kernel,
    STAGES: tl.constexpr,
    RGB: tl.constexpr,
    BLOCK: tl.constexpr,
):
    sample, view = tl.program_id(1), tl.program_id(2)
    row = draws + (view.to(tl.int64) * batch + first + sample) * ROW_LENGTH
    if not has_entry(row, BLUR, STAGES):
        return
    pixel = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    shown = pixel < view_height * view_width
    plane = view_height.to(tl.int64) * view_width
    current = has_entry(row, ROTATE, STAGES).to(tl.int32)
    source = workspace + view_of(current, view, sample, samples, plane, RGB)
    target = workspace + view_of(1 - current, view, sample, samples, plane, RGB)
    r, g, b = sampling.blurred(
        source,
        plane,
        pixel // view_width,
        pixel % view_width,
        shown,
        tl.load(row + BLUR_SIGMA),
        kernel,
        view_height,
        view_width,
        True,
        RGB,
    )
    store_pixel(target + pixel, plane, r, g, b, shown, RGB)


@triton.jit(do_not_specialize=[*_SIZES, "kernel", "channel"])
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
    BLOCK: tl.constexpr,
    SUMS: tl.constexpr,
):
    """One segment of BLOCK pixels of a view: its entry, its steps, and where it ends.

    `first` is the sample in the batch that the workspace begins with. `channel` is the number of
    an image's only channel in the image that it is part of.
    """
    sample, view = tl.program_id(1), tl.program_id(2)
    row = draws + (view.to(tl.int64) * batch + first + sample) * ROW_LENGTH
    if ENTRY != RESIZE:
        if not has_entry(row, ENTRY, STAGES):
            return
    following = next_entry(row, ENTRY, STAGES)
    last = following == END

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
    made = made_y * view_width + made_x

    plane = view_height.to(tl.int64) * view_width
    current = has_entry(row, ROTATE, STAGES).to(tl.int32)
    mean = 0.0
    if ENTRY == RESIZE:
        r, g, b = sampling.resized(
            images + (first + sample).to(tl.int64) * stride_b,
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
            made_y,
            made_x,
            shown,
            RGB,
        )
        if BYTES:
            r, g, b = r / 255.0, g / 255.0, b / 255.0
    elif ENTRY == ROTATE:
        turn = turns + 2 * (view.to(tl.int64) * batch + first + sample)
        r, g, b = sampling.rotated(
            workspace + view_of(current * 0, view, sample, samples, plane, RGB),
            plane,
            made_y,
            made_x,
            shown,
            tl.load(turn),
            tl.load(turn + 1),
            view_height,
            view_width,
            RGB,
        )
    elif ENTRY == BLUR:
        r, g, b = sampling.blurred(
            workspace + view_of(1 - current, view, sample, samples, plane, RGB),
            plane,
            made_y,
            made_x,
            shown,
            tl.load(row + BLUR_SIGMA),
            kernel,
            view_height,
            view_width,
            False,
            RGB,
        )
    else:
        own = workspace + view_of(current, view, sample, samples, plane, RGB)
        r, g, b = load_pixel(own + made, plane, shown, RGB)
        values = plane
        KIND: tl.constexpr = 0 if ENTRY == CONTRAST else 1
        if RGB and ENTRY == DIFF_CONTRAST:
            values = 3 * plane
        mean = mean_of(sums, KIND, view, sample, samples, tl.num_programs(0), values, SUMS)

    r, g, b = apply_steps(r, g, b, row, mean, made, channel, following, ENTRY, STAGES, RGB)

    if ENTRY < DIFF_CONTRAST:
        if not last:
            own = workspace + view_of(current * (ENTRY > RESIZE), view, sample, samples, plane, RGB)
            store_pixel(own + pixel, plane, r, g, b, inside, RGB)
            if (following == CONTRAST) | (following == DIFF_CONTRAST):
                kind = (following == DIFF_CONTRAST).to(tl.int32)
                value = r
                if RGB:
                    value = tl.where(kind == 0, colour.luma(r, g, b, RGB), r + g + b)
                at = ((kind * tl.num_programs(2) + view).to(tl.int64) * samples + sample).to(tl.int64)
                at = at * tl.num_programs(0) + tl.program_id(0)
                tl.store(sums + at, tl.sum(tl.where(inside, value, 0.0), 0))
    if last:
        if MAY_TRANSLATE & STAGES:
            r, g, b = tl.where(shown, r, 0.0), tl.where(shown, g, 0.0), tl.where(shown, b, 0.0)
        if NORMALIZE:
            r, g, b = (r - mean_r) / std_r, (g - mean_g) / std_g, (b - mean_b) / std_b
        if MAY_ERASE & STAGES:
            top, left = tl.load(row + ERASE_TOP), tl.load(row + ERASE_LEFT)
            erased = (y >= top) & (y < top + tl.load(row + ERASE_HEIGHT))
            erased = erased & (x >= left) & (x < left + tl.load(row + ERASE_WIDTH))
            r = tl.where(erased, erase_value, r)
            g = tl.where(erased, erase_value, g)
            b = tl.where(erased, erase_value, b)
        at = out + view.to(tl.int64) * out_v + (first + sample).to(tl.int64) * out_b
        at = at + sampling.pixel_offset(y, x, out_y, out_x)
        store_pixel(at, out_c, r, g, b, inside, RGB)
