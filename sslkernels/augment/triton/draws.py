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
from sslkernels.augment.layout import NUMBERS, ROW, Number
from sslkernels.augment.triton import chance
from sslkernels.augment.triton.plan import (
    BLUR_SIGMA,
    BRIGHTNESS_FACTOR,
    CONTRAST_FACTOR,
    DIFF_BRIGHTNESS,
    DIFF_CONTRAST_FACTOR,
    DIFF_SATURATION,
    DOWN,
    ERASE_TOP,
    GRAYSCALE,
    HORIZONTAL_FLIP,
    HUE_SHIFT,
    NOISE,
    NOISE_KEY,
    ORDER,
    RIGHT,
    ROTATION,
    ROW_LENGTH,
    SATURATION_FACTOR,
    SOLARIZE,
    TOP,
    VERTICAL_FLIP,
)
from sslkernels.operators import on_device

_TURN = tl.constexpr(definition.TURN)
_CHOICE = tl.constexpr(definition.CHOICE)
_JITTER = tl.constexpr(definition.JITTER)
_PIXEL = tl.constexpr(definition.PIXEL)
_KEY = tl.constexpr(definition.KEY)
_DIFF = tl.constexpr(definition.DIFF)
_SHIFT = tl.constexpr(definition.SHIFT)
_NO_SOLARIZE = tl.constexpr(definition.NO_SOLARIZE)

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
    row = rows + samples.to(tl.int64) * ROW_LENGTH
    none = samples * 0
    _put(row, ROTATION + 1, none, real)  # the two columns without a name
    _put(row, ROW_LENGTH - 1, none, real)

    if CROP:
        top, left, box_height, box_width, found = chance.attempts(
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
        down, across = chance.middle(image_height, image_width, crop_ratio_low, crop_ratio_high)
        top = tl.where(found, top, (image_height - down) // 2)
        left = tl.where(found, left, (image_width - across) // 2)
        box_height = tl.where(found, box_height, down)
        box_width = tl.where(found, box_width, across)
        _put_box(row, TOP, top, left, box_height, box_width, real)
    else:
        _put_box(row, TOP, none, none, none + image_height, none + image_width, real)

    turn = chance.block(seed, epoch, view, ids, _TURN)
    _put(row, HORIZONTAL_FLIP, philox_triton.less(turn[0], horizontal_flip_below), real)
    _put(row, VERTICAL_FLIP, philox_triton.less(turn[1], vertical_flip_below), real)
    degrees = chance.between(turn[3], rotation_low, rotation_span)
    rotates = philox_triton.less(turn[2], rotation_below)
    _put(row, ROTATION, tl.where(rotates, degrees, 0.0), real)

    choice = chance.block(seed, epoch, view, ids, _CHOICE)
    jitters = philox_triton.less(choice[0], jitter_below)
    order = chance.permutation(tl.umulhi(choice[1], choice[1] * 0 + 24).to(tl.int32))
    for i in tl.static_range(4):
        happens = jitters & (((none + JITTERS) >> order[i]) & 1 != 0)
        _put(row, ORDER + i, tl.where(happens, order[i], -1), real)
    jitter = chance.block(seed, epoch, view, ids, _JITTER)
    brightness = chance.between(jitter[0], brightness_low, brightness_span)
    _put(row, BRIGHTNESS_FACTOR, brightness, real)
    contrast = chance.between(jitter[1], contrast_low, contrast_span)
    _put(row, CONTRAST_FACTOR, contrast, real)
    saturation = chance.between(jitter[2], saturation_low, saturation_span)
    _put(row, SATURATION_FACTOR, saturation, real)
    _put(row, HUE_SHIFT, chance.between(jitter[3], hue_low, hue_span), real)
    _put(row, GRAYSCALE, philox_triton.less(choice[2], grayscale_below), real)

    pixel = chance.block(seed, epoch, view, ids, _PIXEL)
    sigma = chance.between(pixel[0], blur_sigma_low, blur_sigma_span)
    blurs = philox_triton.less(choice[3], blur_below)
    _put(row, BLUR_SIGMA, tl.where(blurs, sigma, 0.0), real)
    solarizes = philox_triton.less(pixel[1], solarize_below)
    _put(row, SOLARIZE, tl.where(solarizes, solarize_threshold, _NO_SOLARIZE), real)
    deviation = chance.between(pixel[3], noise_low, noise_span)
    noisy = philox_triton.less(pixel[2], noise_below)
    _put(row, NOISE, tl.where(noisy, deviation, 0.0), real)
    key = chance.block(seed, epoch, view, ids, _KEY)
    _put(row, NOISE_KEY, key[0] >> 8, real)
    _put(row, NOISE_KEY + 1, key[1] >> 8, real)

    diff = chance.block(seed, epoch, view, ids, _DIFF)
    brightness = chance.between(diff[0], diff_brightness_low, diff_brightness_span)
    _put(row, DIFF_BRIGHTNESS, brightness, real)
    saturation = chance.between(diff[1], diff_saturation_low, diff_saturation_span)
    _put(row, DIFF_SATURATION, saturation, real)
    contrast = chance.between(diff[2], diff_contrast_low, diff_contrast_span)
    _put(row, DIFF_CONTRAST_FACTOR, contrast, real)
    shift = chance.block(seed, epoch, view, ids, _SHIFT)
    _put(row, DOWN, chance.shift(shift[0], translation, height), real)
    _put(row, RIGHT, chance.shift(shift[1], translation, width), real)

    if CUTOUT:
        top, box_height = chance.cutout(shift[2], cutout, height)
        left, box_width = chance.cutout(shift[3], cutout, width)
    else:
        top, left, box_height, box_width, found = chance.attempts(
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
    _put_box(row, ERASE_TOP, top, left, box_height, box_width, real)
