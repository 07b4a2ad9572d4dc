"""The memory between the launches of a call, and where a kernel finds what in it."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import dataclasses
import math

import torch
import triton
import triton.language as tl
from torch import Tensor

from sslkernels.augment.layout import Slot, Stage
from sslkernels.augment.reference import Settings
from sslkernels.augment.triton import plan
from sslkernels.augment.triton.plan import buffer_of

WORKSPACE_MIB = 128.0
"""Views that do not fit into the workspace are made some samples at a time."""

BLOCK, WARPS = 256, 4
"""Pixels of a program and its warps: two pixels of three channels for a thread, whose loads are six
on their way at a time."""

SUMS = tl.constexpr(256)
"""How many sums of blocks are added at a time."""

_LONGEST_GRID = 65535  # along its second and third axis


@dataclasses.dataclass(frozen=True)
class Call:
    """Images [B, 1 or 3, H, W], the draws of their views, and the memory between launches.

    workspace: [buffers, V, samples, C, h, w], an image for each entry (`plan.buffer_of`).
    sums: [4, V, samples, blocks], what each block of a view adds to the mean luma, to the mean of
        all, and to the gradients of the two.
    turns: [V, B, 2], cosine and sine of the rotation.
    channel: the number of the first channel in the image that these are part of.
    """

    images: Tensor
    draws: Tensor
    settings: Settings
    channel: int
    turns: Tensor | None
    workspace: Tensor | None
    sums: Tensor | None
    samples: int

    @property
    def entries(self) -> list[int]:
        """Those that a view may have, in order."""
        return entries_of(Stage(self.settings.stages))

    def grid(self, first: int) -> tuple[int, int, int]:
        """Blocks, samples from `first` on, and views."""
        samples = min(self.samples, self.images.shape[0] - first)
        return blocks_of(self.settings.size), samples, self.draws.shape[0]

    def ranges(self) -> range:
        """The first of as many samples as the workspace holds, in turn."""
        return range(0, self.images.shape[0], self.samples)


def entries_of(stages: Stage) -> list[int]:
    may = {
        plan.ROTATE.value: Stage.ROTATION,
        plan.CONTRAST.value: Stage.COLOUR,
        plan.ACROSS.value: Stage.BLUR,
        plan.BLUR.value: Stage.BLUR,
        plan.DIFF_CONTRAST.value: Stage.DIFF_COLOUR,
    }
    return [plan.RESIZE.value, *(entry for entry, stage in may.items() if stage in stages)]


def blocks_of(size: tuple[int, int]) -> int:
    return triton.cdiv(size[0] * size[1], BLOCK)


def prepared(
    images: Tensor, draws: Tensor, settings: Settings, channel: int, every_entry: bool
) -> Call:
    """With `every_entry` the last one has a buffer too."""
    batch, channels = images.shape[:2]
    views, (height, width) = draws.shape[0], settings.size
    stages = Stage(settings.stages)
    turns = None
    if Stage.ROTATION in stages:
        radians = draws[:, :, Slot.ROTATION].double() * (math.pi / 180)
        turns = torch.stack([torch.cos(radians), torch.sin(radians)], dim=2).float()
    samples = min(batch, _LONGEST_GRID)
    buffers = len(entries_of(stages)) - (not every_entry)
    if buffers:
        bytes_each = 4 * buffers * views * channels * height * width
        samples = min(samples, max(1, int(WORKSPACE_MIB * 2**20) // bytes_each))
    empty = {"dtype": torch.float32, "device": images.device}
    shape = (buffers, views, samples, channels, height, width)
    workspace = torch.empty(shape, **empty) if buffers else None
    sums = None
    if stages & (Stage.COLOUR | Stage.DIFF_COLOUR):
        sums = torch.empty((4, views, samples, blocks_of(settings.size)), **empty)
    return Call(images, draws, settings, channel, turns, workspace, sums, samples)


def three(values: tuple[float, ...], default: float) -> tuple[float, float, float]:
    """Of an image with one channel the first alone has a use."""
    first, second, third, *_ = (*values, default, default, default)
    return first, second, third


@triton.jit
def image_of(
    workspace, entry, views, view, sample, samples, plane, STAGES: tl.constexpr, RGB: tl.constexpr
):
    """The image that the segment of an entry left for a view."""
    buffer = buffer_of(entry, STAGES).to(tl.int64)
    number = (buffer * views + view) * samples + sample
    values = plane
    if RGB:
        values = 3 * plane
    return workspace + number * values


@triton.jit
def sums_of(sums, kind, views, view, sample, samples, blocks):
    """The sums of a view's blocks. Kinds: 0 luma, 1 all, 2 and 3 their gradients."""
    return sums + ((kind * views + view).to(tl.int64) * samples + sample) * blocks


@triton.jit
def total_of(sums, kind, views, view, sample, samples, blocks):
    """The sum over all blocks of a view."""
    own = sums_of(sums, kind, views, view, sample, samples, blocks)
    total = tl.zeros((SUMS,), tl.float32)
    for start in range(0, blocks, SUMS):
        at = start + tl.arange(0, SUMS)
        total += tl.load(own + at, mask=at < blocks, other=0.0)
    return tl.sum(total, 0)


@triton.jit
def load_pixel(at, plane, mask, RGB: tl.constexpr):
    r = tl.load(at, mask=mask, other=0.0).to(tl.float32)
    g = r
    b = r
    if RGB:
        g = tl.load(at + plane, mask=mask, other=0.0).to(tl.float32)
        b = tl.load(at + 2 * plane, mask=mask, other=0.0).to(tl.float32)
    return r, g, b


@triton.jit
def store_pixel(at, plane, r, g, b, mask, RGB: tl.constexpr):
    tl.store(at, r, mask=mask)
    if RGB:
        tl.store(at + plane, g, mask=mask)
        tl.store(at + 2 * plane, b, mask=mask)
