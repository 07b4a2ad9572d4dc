"""The draws in Triton: bit for bit those of `sslkernels.augment.draws`, whose rules hold here too.

A thread makes the rows of a sample for one view. The numbers of the policy are arguments of the
kernel, so that nothing is copied to the GPU.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
import triton.language as tl
from torch import Tensor
from torch.library import wrap_triton

from sslkernels import philox_triton
from sslkernels.augment import draws as definition
from sslkernels.augment.layout import NUMBERS, ROW, Number, Slot
from sslkernels.operators import on_device
from sslkernels.philox import Stream

_AUGMENT = tl.constexpr(int(Stream.AUGMENT))
_ROW = tl.constexpr(ROW)
_ATTEMPTS = tl.constexpr(definition.ATTEMPTS)
_CROP = tl.constexpr(definition.CROP)
_TURN = tl.constexpr(definition.TURN)
_CHOICE = tl.constexpr(definition.CHOICE)
_JITTER = tl.constexpr(definition.JITTER)
_PIXEL = tl.constexpr(definition.PIXEL)
_KEY = tl.constexpr(definition.KEY)
_ERASE = tl.constexpr(definition.ERASE)
_DIFF = tl.constexpr(definition.DIFF)
_SHIFT = tl.constexpr(definition.SHIFT)
_NO_SOLARIZE = tl.constexpr(definition.NO_SOLARIZE)
_P6, _P5, _P4, _P3, _P2, _P1, _P0 = (
    tl.constexpr(c) for c in torch.tensor(definition.EXP2, dtype=torch.float32).tolist()
)
_UNIT = tl.constexpr(2.0**-24)

_TOP = tl.constexpr(int(Slot.TOP))
_HORIZONTAL_FLIP = tl.constexpr(int(Slot.HORIZONTAL_FLIP))
_VERTICAL_FLIP = tl.constexpr(int(Slot.VERTICAL_FLIP))
_ROTATION = tl.constexpr(int(Slot.ROTATION))
_ORDER = tl.constexpr(int(Slot.ORDER))
_BRIGHTNESS = tl.constexpr(int(Slot.BRIGHTNESS))
_GRAYSCALE = tl.constexpr(int(Slot.GRAYSCALE))
_BLUR_SIGMA = tl.constexpr(int(Slot.BLUR_SIGMA))
_SOLARIZE = tl.constexpr(int(Slot.SOLARIZE))
_NOISE = tl.constexpr(int(Slot.NOISE))
_ERASE_TOP = tl.constexpr(int(Slot.ERASE_TOP))
_DOWN = tl.constexpr(int(Slot.DOWN))
_DIFF_BRIGHTNESS = tl.constexpr(int(Slot.DIFF_BRIGHTNESS))
_NOISE_KEY = tl.constexpr(int(Slot.NOISE_KEY))

_SAMPLES = 32
_JITTERS = (Number.BRIGHTNESS, Number.CONTRAST, Number.SATURATION, Number.HUE)
_CONSTANTS = (Number.CROP, Number.CUTOUT, *_JITTERS)
_SIZES = (Number.HEIGHT, Number.WIDTH)


def augment_draws(
    sample_ids: Tensor, numbers: Sequence[float], seed: int, epoch: int, height: int, width: int
) -> Tensor:
    """Rows [V, B, 32] in float32."""
    views, batch = len(numbers) // NUMBERS, sample_ids.shape[0]
    rows = sample_ids.new_empty((views, batch, ROW), dtype=torch.float32)
    if batch == 0:
        return rows
    with on_device(sample_ids):
        for view in range(views):
            own = numbers[view * NUMBERS : (view + 1) * NUMBERS]
            wrap_triton(_draws_kernel)[(triton.cdiv(batch, _SAMPLES),)](
                sample_ids,
                rows[view],
                batch,
                seed,
                epoch,
                view,
                height,
                width,
                **_arguments(own),
                SAMPLES=_SAMPLES,
                num_warps=1,
            )
    return rows


def _arguments(numbers: Sequence[float]) -> dict[str, float | int | bool]:
    """The numbers by the names that the kernel has for them."""
    arguments: dict[str, float | int | bool] = {}
    for number in Number:
        whole = number in _SIZES or number.name.endswith("_BELOW")
        if number not in _CONSTANTS:
            value = numbers[number]
            arguments[number.name.lower()] = int(value) if whole else value
    arguments["cutout"] = numbers[Number.CUTOUT]
    arguments["JITTERS"] = sum(bool(numbers[x]) << i for i, x in enumerate(_JITTERS))
    arguments["CROP"] = bool(numbers[Number.CROP])
    arguments["CUTOUT"] = bool(numbers[Number.CUTOUT])
    return arguments


@triton.jit
def _block(seed, epoch, view, ids, draw):
    return philox_triton.block(
        seed, _AUGMENT, ids, ids.to(tl.int32) * 0 + 65536 * view + draw, epoch
    )


@triton.jit
def _wide(x):
    return tl.to_tensor(x).to(tl.float64)


@triton.jit
def _between(word, low, span):
    """float32, uniform on [low, low + span]."""
    uniform = (word >> 8).to(tl.float64) * _UNIT
    return (_wide(low) + _wide(span) * uniform).to(tl.float32)


@triton.jit
def _horner(value, x, coefficient):
    return (value * x + coefficient).to(tl.float32).to(tl.float64)


@triton.jit
def _exp2(x):
    """2**x in float64 of float32."""
    wide = x.to(tl.float64)
    whole = tl.floor(wide + 0.5)
    part = wide - whole
    value = part * 0.0 + _P6
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
def _attempts(
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
        words = _block(seed, epoch, view, ids, first + attempt)
        area = area_of_all * _between(words[0], scale_low, scale_span).to(tl.float64)
        ratio = _exp2(_between(words[1], log_ratio_low, log_ratio_span))
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
def _middle(height, width, ratio_low, ratio_high):
    """Height and width of the largest box in the middle with a ratio that is allowed."""
    down, across = height.to(tl.float64), width.to(tl.float64)
    low, high = _wide(ratio_low), _wide(ratio_high)
    ratio = across / down
    narrow = tl.maximum(tl.floor(across / low + 0.5), 1.0)
    wide = tl.maximum(tl.floor(down * high + 0.5), 1.0)
    box_height = tl.where(ratio < low, narrow, down)
    box_width = tl.where((ratio >= low) & (ratio > high), wide, across)
    return box_height.to(tl.int32), box_width.to(tl.int32)


@triton.jit
def _cutout(word, share, side):
    """Begin and length of a span around any place, cut off at the border."""
    length = tl.floor(_wide(share) * side.to(tl.float64) + 0.5).to(tl.int32)
    begin = philox_triton.below(word, side + 1 - length % 2) - length // 2
    end = tl.minimum(begin + length, side)
    begin = tl.maximum(begin, 0)
    return begin, end - begin


@triton.jit
def _shift(word, share, side):
    most = tl.floor(_wide(share) * side.to(tl.float64) + 0.5).to(tl.int32)
    return philox_triton.below(word, 2 * most + 1) - most


@triton.jit
def _permutation(number):
    """Four numbers in the order that has this place among the 24, in lexicographic order."""
    first = number // 6
    second = number % 6 // 2
    second += (second >= first).to(tl.int32)
    third = number % 2
    third += (third >= tl.minimum(first, second)).to(tl.int32)
    third += (third >= tl.maximum(first, second)).to(tl.int32)
    return first, second, third, 6 - first - second - third


@triton.jit
def _put(row, SLOT: tl.constexpr, value, mask):
    tl.store(row + SLOT, value.to(tl.float32), mask=mask)


@triton.jit
def _put_box(row, FIRST: tl.constexpr, top, left, height, width, mask):
    _put(row, FIRST, top, mask)
    _put(row, FIRST + 1, left, mask)
    _put(row, FIRST + 2, height, mask)
    _put(row, FIRST + 3, width, mask)


_ARGUMENTS = [
    *("seed", "epoch", "view", "image_height", "image_width"),
    *(number.name.lower() for number in Number if number not in (Number.CROP, *_JITTERS)),
]


@triton.jit(do_not_specialize=_ARGUMENTS)
def _draws_kernel(
    sample_ids,
    rows,
    batch,
    seed,
    epoch,
    view,
    image_height,
    image_width,
    height,
    width,
    crop_scale_low,
    crop_scale_span,
    crop_log_ratio_low,
    crop_log_ratio_span,
    crop_ratio_low,
    crop_ratio_high,
    horizontal_flip_below,
    vertical_flip_below,
    rotation_below,
    rotation_low,
    rotation_span,
    jitter_below,
    brightness_low,
    brightness_span,
    contrast_low,
    contrast_span,
    saturation_low,
    saturation_span,
    hue_low,
    hue_span,
    grayscale_below,
    blur_below,
    blur_sigma_low,
    blur_sigma_span,
    solarize_below,
    solarize_threshold,
    noise_below,
    noise_low,
    noise_span,
    erase_below,
    erase_scale_low,
    erase_scale_span,
    erase_log_ratio_low,
    erase_log_ratio_span,
    translation,
    diff_brightness_low,
    diff_brightness_span,
    diff_saturation_low,
    diff_saturation_span,
    diff_contrast_low,
    diff_contrast_span,
    cutout,
    JITTERS: tl.constexpr,
    CROP: tl.constexpr,
    CUTOUT: tl.constexpr,
    SAMPLES: tl.constexpr,
):
    """The rows of SAMPLES samples. JITTERS has a bit for each operation that may happen."""
    samples = tl.program_id(0) * SAMPLES + tl.arange(0, SAMPLES)
    real = samples < batch
    ids = tl.load(sample_ids + samples, mask=real, other=0)
    row = rows + samples.to(tl.int64) * _ROW
    for slot in tl.static_range(_ROW):  # those without a name, and what is overwritten
        if slot == 7 or slot == 31:
            tl.store(row + slot, tl.zeros((SAMPLES,), tl.float32), mask=real)
    none = samples * 0

    if CROP:
        top, left, box_height, box_width, found = _attempts(
            seed,
            epoch,
            view,
            ids,
            image_height,
            image_width,
            crop_scale_low,
            crop_scale_span,
            crop_log_ratio_low,
            crop_log_ratio_span,
            False,
        )
        down, across = _middle(image_height, image_width, crop_ratio_low, crop_ratio_high)
        top = tl.where(found, top, (image_height - down) // 2)
        left = tl.where(found, left, (image_width - across) // 2)
        box_height = tl.where(found, box_height, down)
        box_width = tl.where(found, box_width, across)
        _put_box(row, _TOP, top, left, box_height, box_width, real)
    else:
        _put_box(row, _TOP, none, none, none + image_height, none + image_width, real)

    turn = _block(seed, epoch, view, ids, _TURN)
    _put(row, _HORIZONTAL_FLIP, philox_triton.less(turn[0], horizontal_flip_below), real)
    _put(row, _VERTICAL_FLIP, philox_triton.less(turn[1], vertical_flip_below), real)
    degrees = _between(turn[3], rotation_low, rotation_span)
    rotates = philox_triton.less(turn[2], rotation_below)
    _put(row, _ROTATION, tl.where(rotates, degrees, 0.0), real)

    choice = _block(seed, epoch, view, ids, _CHOICE)
    jitters = philox_triton.less(choice[0], jitter_below)
    order = _permutation(tl.umulhi(choice[1], choice[1] * 0 + 24).to(tl.int32))
    for i in tl.static_range(4):
        happens = jitters & (((none + JITTERS) >> order[i]) & 1 != 0)
        _put(row, _ORDER + i, tl.where(happens, order[i], -1), real)
    jitter = _block(seed, epoch, view, ids, _JITTER)
    _put(row, _BRIGHTNESS, _between(jitter[0], brightness_low, brightness_span), real)
    _put(row, _BRIGHTNESS + 1, _between(jitter[1], contrast_low, contrast_span), real)
    _put(row, _BRIGHTNESS + 2, _between(jitter[2], saturation_low, saturation_span), real)
    _put(row, _BRIGHTNESS + 3, _between(jitter[3], hue_low, hue_span), real)
    _put(row, _GRAYSCALE, philox_triton.less(choice[2], grayscale_below), real)

    pixel = _block(seed, epoch, view, ids, _PIXEL)
    sigma = _between(pixel[0], blur_sigma_low, blur_sigma_span)
    blurs = philox_triton.less(choice[3], blur_below)
    _put(row, _BLUR_SIGMA, tl.where(blurs, sigma, 0.0), real)
    solarizes = philox_triton.less(pixel[1], solarize_below)
    _put(row, _SOLARIZE, tl.where(solarizes, solarize_threshold, _NO_SOLARIZE), real)
    deviation = _between(pixel[3], noise_low, noise_span)
    noisy = philox_triton.less(pixel[2], noise_below)
    _put(row, _NOISE, tl.where(noisy, deviation, 0.0), real)
    key = _block(seed, epoch, view, ids, _KEY)
    _put(row, _NOISE_KEY, key[0] >> 8, real)
    _put(row, _NOISE_KEY + 1, key[1] >> 8, real)

    diff = _block(seed, epoch, view, ids, _DIFF)
    _put(row, _DIFF_BRIGHTNESS, _between(diff[0], diff_brightness_low, diff_brightness_span), real)
    saturation = _between(diff[1], diff_saturation_low, diff_saturation_span)
    _put(row, _DIFF_BRIGHTNESS + 1, saturation, real)
    contrast = _between(diff[2], diff_contrast_low, diff_contrast_span)
    _put(row, _DIFF_BRIGHTNESS + 2, contrast, real)
    shift = _block(seed, epoch, view, ids, _SHIFT)
    _put(row, _DOWN, _shift(shift[0], translation, height), real)
    _put(row, _DOWN + 1, _shift(shift[1], translation, width), real)

    if CUTOUT:
        top, box_height = _cutout(shift[2], cutout, height)
        left, box_width = _cutout(shift[3], cutout, width)
    else:
        top, left, box_height, box_width, found = _attempts(
            seed,
            epoch,
            view,
            ids,
            height,
            width,
            erase_scale_low,
            erase_scale_span,
            erase_log_ratio_low,
            erase_log_ratio_span,
            True,
        )
        erased = found & philox_triton.less(key[2], erase_below)
        top = tl.where(erased, top, 0)
        left = tl.where(erased, left, 0)
        box_height = tl.where(erased, box_height, 0)
        box_width = tl.where(erased, box_width, 0)
    _put_box(row, _ERASE_TOP, top, left, box_height, box_width, real)
