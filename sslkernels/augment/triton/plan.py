"""What a row of draws asks for, as far as kernels must know it before they begin.

A view is made in segments. A segment begins with what needs more of the image than the pixel itself
(its entry), goes on with pointwise stages, and ends where the next entry of that view begins: in a
buffer of the workspace, or, after the last one, in the result. Each entry that the policy may have
is a launch for all samples, in which the programs of views that do not have it return at once.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels.augment.layout import ROW, Slot, Stage

# The entries, in their order. A view always has RESIZE; END is what follows the last one.
RESIZE = tl.constexpr(0)
ROTATE = tl.constexpr(1)
CONTRAST = tl.constexpr(2)  # needs the mean luma
ACROSS = tl.constexpr(3)  # the first half of a blur, along rows
BLUR = tl.constexpr(4)  # the second half, along columns
DIFF_CONTRAST = tl.constexpr(5)  # needs the mean of all
END = tl.constexpr(6)

MAY_ROTATE = tl.constexpr(int(Stage.ROTATION))
MAY_COLOUR = tl.constexpr(int(Stage.COLOUR))
MAY_GRAYSCALE = tl.constexpr(int(Stage.GRAYSCALE))
MAY_BLUR = tl.constexpr(int(Stage.BLUR))
MAY_SOLARIZE = tl.constexpr(int(Stage.SOLARIZE))
MAY_NOISE = tl.constexpr(int(Stage.NOISE))
MAY_DIFF_COLOUR = tl.constexpr(int(Stage.DIFF_COLOUR))
MAY_TRANSLATE = tl.constexpr(int(Stage.TRANSLATION))
MAY_ERASE = tl.constexpr(int(Stage.ERASE))

ROW_LENGTH = tl.constexpr(ROW)
TOP = tl.constexpr(int(Slot.TOP))
LEFT = tl.constexpr(int(Slot.LEFT))
HEIGHT = tl.constexpr(int(Slot.HEIGHT))
WIDTH = tl.constexpr(int(Slot.WIDTH))
HORIZONTAL_FLIP = tl.constexpr(int(Slot.HORIZONTAL_FLIP))
VERTICAL_FLIP = tl.constexpr(int(Slot.VERTICAL_FLIP))
ROTATION = tl.constexpr(int(Slot.ROTATION))
ORDER = tl.constexpr(int(Slot.ORDER))
BRIGHTNESS_FACTOR = tl.constexpr(int(Slot.BRIGHTNESS))
CONTRAST_FACTOR = tl.constexpr(int(Slot.CONTRAST))
SATURATION_FACTOR = tl.constexpr(int(Slot.SATURATION))
HUE_SHIFT = tl.constexpr(int(Slot.HUE))
GRAYSCALE = tl.constexpr(int(Slot.GRAYSCALE))
BLUR_SIGMA = tl.constexpr(int(Slot.BLUR_SIGMA))
SOLARIZE = tl.constexpr(int(Slot.SOLARIZE))
NOISE = tl.constexpr(int(Slot.NOISE))
NOISE_KEY = tl.constexpr(int(Slot.NOISE_KEY))
ERASE_TOP = tl.constexpr(int(Slot.ERASE_TOP))
ERASE_LEFT = tl.constexpr(int(Slot.ERASE_LEFT))
ERASE_HEIGHT = tl.constexpr(int(Slot.ERASE_HEIGHT))
ERASE_WIDTH = tl.constexpr(int(Slot.ERASE_WIDTH))
DOWN = tl.constexpr(int(Slot.DOWN))
RIGHT = tl.constexpr(int(Slot.RIGHT))
DIFF_BRIGHTNESS = tl.constexpr(int(Slot.DIFF_BRIGHTNESS))
DIFF_SATURATION = tl.constexpr(int(Slot.DIFF_SATURATION))
DIFF_CONTRAST_FACTOR = tl.constexpr(int(Slot.DIFF_CONTRAST))


@triton.jit
def contrast_place(row, STAGES: tl.constexpr):
    """At which of its four places the jitter has contrast; 4 for none."""
    place = tl.load(row + ORDER).to(tl.int32) * 0 + 4
    if MAY_COLOUR & STAGES:
        for i in tl.static_range(4):
            place = tl.where(tl.load(row + ORDER + 3 - i) == 1.0, 3 - i, place)
    return place


@triton.jit
def has_entry(row, ENTRY: tl.constexpr, STAGES: tl.constexpr):
    """Whether the view has this entry."""
    found = tl.load(row) != tl.load(row)
    if ENTRY == RESIZE:
        found = found | True
    elif ENTRY == ROTATE:
        if MAY_ROTATE & STAGES:
            found = tl.load(row + ROTATION) != 0.0
    elif ENTRY == CONTRAST:
        found = contrast_place(row, STAGES) < 4
    elif ENTRY == DIFF_CONTRAST:
        if MAY_DIFF_COLOUR & STAGES:
            found = tl.load(row + DIFF_CONTRAST_FACTOR) != 1.0
    elif MAY_BLUR & STAGES:
        found = tl.load(row + BLUR_SIGMA) > 0.0
    return found


@triton.jit
def next_entry(row, ENTRY: tl.constexpr, STAGES: tl.constexpr):
    """The first entry of the view after this one."""
    following = tl.load(row).to(tl.int32) * 0 + END
    if ENTRY < DIFF_CONTRAST:
        following = tl.where(has_entry(row, DIFF_CONTRAST, STAGES), DIFF_CONTRAST, following)
    if ENTRY < BLUR:
        following = tl.where(has_entry(row, BLUR, STAGES), BLUR, following)
    if ENTRY < ACROSS:
        following = tl.where(has_entry(row, ACROSS, STAGES), ACROSS, following)
    if ENTRY < CONTRAST:
        following = tl.where(has_entry(row, CONTRAST, STAGES), CONTRAST, following)
    if ENTRY < ROTATE:
        following = tl.where(has_entry(row, ROTATE, STAGES), ROTATE, following)
    return following


@triton.jit
def entry_before(row, ENTRY: tl.constexpr, STAGES: tl.constexpr):
    """The last entry of the view before this one."""
    before = tl.load(row).to(tl.int32) * 0 + RESIZE
    if ENTRY > ROTATE:
        before = tl.where(has_entry(row, ROTATE, STAGES), ROTATE, before)
    if ENTRY > CONTRAST:
        before = tl.where(has_entry(row, CONTRAST, STAGES), CONTRAST, before)
    if ENTRY > ACROSS:
        before = tl.where(has_entry(row, ACROSS, STAGES), ACROSS, before)
    if ENTRY > BLUR:
        before = tl.where(has_entry(row, BLUR, STAGES), BLUR, before)
    return before


@triton.jit
def buffer_of(entry, STAGES: tl.constexpr):
    """The buffer of an entry's segment: its place among those that the policy may have."""
    place = (entry > RESIZE).to(tl.int32)
    if MAY_ROTATE & STAGES:
        place += (entry > ROTATE).to(tl.int32)
    if MAY_COLOUR & STAGES:
        place += (entry > CONTRAST).to(tl.int32)
    if MAY_BLUR & STAGES:
        place += (entry > ACROSS).to(tl.int32) + (entry > BLUR).to(tl.int32)
    return place
