"""The draws: one row of float32 for each view of each image, bit for bit the same everywhere.

What is random comes from `philox.block(seed, AUGMENT, sample id, 65536 * view + draw, epoch)`,
`draw` being one of the numbers below and the block's words used as the comments say. So a row
depends on nothing but (seed, epoch, sample id, view), the policy and, for crops, the image's size.

Nothing may depend on how an implementation rounds, so these rules hold in PyTorch and in C++:

- All arithmetic is float64: IEEE's +, -, *, /, sqrt and floor, each rounded once, in this order.
- `u(word)` is (word >> 8) * 2**-24; a yes is `word < threshold`; `below` is that of philox.py.
- `between(word, low, span)` is low + span * u(word), rounded to float32. low and span are float32,
  so the product is exact, and a fused multiply-add gives the same.
- `exp2(x)`, for float32 x: n = floor(x + 0.5), f = x - n, then Horner's rule over EXP2, each step
  `acc = float32(acc * f + c)`, again of exact products; the value is acc * 2**n.
- A side is floor(sqrt(area) + 0.5). Everything is stored as float32, lengths being exact.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from sslkernels import philox
from sslkernels.augment.layout import NUMBERS, ROW, Number, Slot

ATTEMPTS = 10  # as torchvision's RandomResizedCrop and RandomErasing

CROP = 0  # 10 draws, one an attempt: scale, ratio, top, left
TURN = 10  # horizontal flip, vertical flip, whether to rotate, degrees
CHOICE = 11  # whether to jitter, order, grayscale, whether to blur
JITTER = 12  # brightness, contrast, saturation, hue
PIXEL = 13  # blur sigma, whether to solarize, whether to add noise, its standard deviation
KEY = 14  # two keys of the noise, whether to erase
ERASE = 15  # 10 draws, one an attempt: scale, ratio, top, left
DIFF = 25  # brightness, saturation, contrast
SHIFT = 26  # translation down and right, centre of the cutout down and right
BLOCKS = 27

ORDERS = tuple(itertools.permutations(range(4)))
"""The orders of the four operations of jitter, in lexicographic order."""

NO_SOLARIZE = 2.0

# 2**x = 1 + x * p(x) for |x| <= 0.5, within 2e-7; from the Cephes library, exp2f.
EXP2 = (
    1.535336188319500e-4,
    1.339887440266574e-3,
    9.618437357674640e-3,
    5.550332471162809e-2,
    2.402264791363012e-1,
    6.931472028550421e-1,
    1.0,
)
"""Coefficients, highest power first, each rounded to float32."""

Word = Callable[[int, int], Tensor]


def draw(
    sample_ids: Tensor, numbers: Sequence[float], seed: int, epoch: int, height: int, width: int
) -> Tensor:
    """Rows of draws: the definition.

    Args:
        sample_ids: [B] int64.
        numbers: those of the policies of V views, one after the other: `layout.Number`.
        seed: 64 bits, signed or unsigned.
        epoch: in [0, 2**24).
        height, width: of the images; at least 1.

    Returns:
        [V, B, 32] float32, `layout.Slot`, on the device of sample_ids.
    """
    device = sample_ids.device
    # Apple's GPUs have no float64.
    ids = sample_ids.cpu() if device.type == "mps" else sample_ids
    draws = torch.arange(BLOCKS, device=ids.device)
    rows = []
    for view in range(len(numbers) // NUMBERS):
        index = 65536 * view + draws
        words = philox.block(seed, philox.Stream.AUGMENT, ids[:, None], index, epoch)
        stacked = torch.stack(words)  # [word, B, draw]
        own = numbers[view * NUMBERS : (view + 1) * NUMBERS]
        rows.append(_row(lambda d, w, x=stacked: x[w, :, d], own, height, width))
    empty = torch.empty(0, ids.shape[0], ROW, device=ids.device)
    return (torch.stack(rows) if rows else empty).to(device)


def _row(word: Word, numbers: Sequence[float], height: int, width: int) -> Tensor:
    """The rows of one view."""
    n = numbers
    view_height, view_width = int(n[Number.HEIGHT]), int(n[Number.WIDTH])

    def yes(draw: int, place: int, below: Number) -> Tensor:
        return word(draw, place) < int(n[below])

    def ranged(draw: int, place: int, low: Number) -> Tensor:
        return between(word(draw, place), n[low], n[low + 1])

    zero = torch.zeros_like(word(0, 0), dtype=torch.float64)
    columns: dict[int, Tensor] = {}

    box = _crop(word, n, height, width) if n[Number.CROP] else (zero, zero, height, width)
    columns |= _box(Slot.TOP, box, zero)
    columns[Slot.HORIZONTAL_FLIP] = yes(TURN, 0, Number.HORIZONTAL_FLIP_BELOW)
    columns[Slot.VERTICAL_FLIP] = yes(TURN, 1, Number.VERTICAL_FLIP_BELOW)
    degrees = ranged(TURN, 3, Number.ROTATION_LOW)
    columns[Slot.ROTATION] = torch.where(yes(TURN, 2, Number.ROTATION_BELOW), degrees, 0.0)

    jitter = yes(CHOICE, 0, Number.JITTER_BELOW)
    happens = torch.tensor([bool(n[Number.BRIGHTNESS + 3 * i]) for i in range(4)])
    order = torch.tensor(ORDERS, device=zero.device)[philox.below(word(CHOICE, 1), len(ORDERS))]
    for i in range(4):
        done = jitter & happens.to(zero.device)[order[:, i]]
        columns[Slot.ORDER + i] = torch.where(done, order[:, i], -1)
        columns[Slot.BRIGHTNESS + i] = ranged(JITTER, i, Number(Number.BRIGHTNESS_LOW + 3 * i))
    columns[Slot.GRAYSCALE] = yes(CHOICE, 2, Number.GRAYSCALE_BELOW)
    sigma = ranged(PIXEL, 0, Number.BLUR_SIGMA_LOW)
    columns[Slot.BLUR_SIGMA] = torch.where(yes(CHOICE, 3, Number.BLUR_BELOW), sigma, 0.0)
    solarize = yes(PIXEL, 1, Number.SOLARIZE_BELOW)
    columns[Slot.SOLARIZE] = torch.where(solarize, n[Number.SOLARIZE_THRESHOLD], NO_SOLARIZE)
    noise = ranged(PIXEL, 3, Number.NOISE_LOW)
    columns[Slot.NOISE] = torch.where(yes(PIXEL, 2, Number.NOISE_BELOW), noise, 0.0)
    for i in range(2):
        columns[Slot.NOISE_KEY + i] = word(KEY, i) >> 8

    columns[Slot.DIFF_BRIGHTNESS] = ranged(DIFF, 0, Number.DIFF_BRIGHTNESS_LOW)
    columns[Slot.DIFF_SATURATION] = ranged(DIFF, 1, Number.DIFF_SATURATION_LOW)
    columns[Slot.DIFF_CONTRAST] = ranged(DIFF, 2, Number.DIFF_CONTRAST_LOW)
    for i, side in enumerate((view_height, view_width)):
        most = int(n[Number.TRANSLATION] * side + 0.5)
        columns[Slot.DOWN + i] = philox.below(word(SHIFT, i), 2 * most + 1) - most

    if n[Number.CUTOUT]:
        box = _cutout(word, n[Number.CUTOUT], view_height, view_width)
    else:
        box = _erase(word, n, yes(KEY, 2, Number.ERASE_BELOW), view_height, view_width)
    columns |= _box(Slot.ERASE_TOP, box, zero)

    nothing = torch.zeros_like(zero, dtype=torch.float32)
    return torch.stack([columns.get(i, nothing).to(torch.float32) for i in range(ROW)], dim=1)


def _crop(word: Word, n: Sequence[float], height: int, width: int) -> tuple[Tensor, ...]:
    """torchvision's RandomResizedCrop: the first attempt that fits, else the middle."""
    log_ratio = (n[Number.CROP_LOG_RATIO_LOW], n[Number.CROP_LOG_RATIO_SPAN])
    scale = (n[Number.CROP_SCALE_LOW], n[Number.CROP_SCALE_SPAN])
    words = _attempts(word, CROP)
    area = float(height * width) * between(words[0], *scale)
    ratio = exp2(between(words[1], *log_ratio))
    across, down = _side(area * ratio), _side(area / ratio)
    fits = (across >= 1) & (across <= width) & (down >= 1) & (down <= height)
    top = philox.below(words[2], (height - down).clamp(min=0).to(torch.int64) + 1)
    left = philox.below(words[3], (width - across).clamp(min=0).to(torch.int64) + 1)

    down_else, across_else = float(height), float(width)
    if width / height < n[Number.CROP_RATIO_LOW]:
        down_else = float(max(1, int(width / n[Number.CROP_RATIO_LOW] + 0.5)))
    elif width / height > n[Number.CROP_RATIO_HIGH]:
        across_else = float(max(1, int(height * n[Number.CROP_RATIO_HIGH] + 0.5)))
    middle = ((height - down_else) // 2, (width - across_else) // 2, down_else, across_else)
    return tuple(
        torch.where(fits.any(0), _first(fits, drawn), other)
        for drawn, other in zip((top.double(), left.double(), down, across), middle, strict=True)
    )


def _erase(
    word: Word, n: Sequence[float], erase: Tensor, height: int, width: int
) -> tuple[Tensor, ...]:
    """torchvision's RandomErasing: the first attempt smaller than the view, else none."""
    log_ratio = (n[Number.ERASE_LOG_RATIO_LOW], n[Number.ERASE_LOG_RATIO_SPAN])
    scale = (n[Number.ERASE_SCALE_LOW], n[Number.ERASE_SCALE_SPAN])
    words = _attempts(word, ERASE)
    area = float(height * width) * between(words[0], *scale)
    ratio = exp2(between(words[1], *log_ratio))
    down, across = _side(area * ratio), _side(area / ratio)
    fits = (down < height) & (across < width)
    top = philox.below(words[2], (height - down).clamp(min=0).to(torch.int64) + 1)
    left = philox.below(words[3], (width - across).clamp(min=0).to(torch.int64) + 1)
    erased = erase & fits.any(0)
    box = (top.double(), left.double(), down, across)
    return tuple(torch.where(erased, _first(fits, drawn), 0.0) for drawn in box)


def _cutout(word: Word, share: float, height: int, width: int) -> tuple[Tensor, ...]:
    """DiffAugment's rand_cutout: a box around any pixel, cut off at the border."""
    begins, lengths = [], []
    for i, side in enumerate((height, width)):
        length = int(share * side + 0.5)
        centre = philox.below(word(SHIFT, 2 + i), side + 1 - length % 2)
        begin = (centre - length // 2).clamp(min=0)
        end = (centre - length // 2 + length).clamp(max=side)
        begins.append(begin)
        lengths.append(end - begin)
    return (*begins, *lengths)


def between(words: Tensor, low: float, span: float) -> Tensor:
    """float64 with the value of a float32, uniform on [low, low + span]."""
    u = (words >> 8).to(torch.float64) * 2.0**-24
    return (low + span * u).to(torch.float32).to(torch.float64)


def exp2(x: Tensor) -> Tensor:
    """2**x as this file defines it, of float64 with the value of a float32, |x| at most 17."""
    n = torch.floor(x + 0.5)
    f = x - n
    acc = torch.zeros_like(f)
    for c in torch.tensor(EXP2, dtype=torch.float32).tolist():
        acc = (acc * f + c).to(torch.float32).to(torch.float64)
    power = torch.ones_like(n, dtype=torch.int64) << (n.to(torch.int64) + 31)
    return acc * (power.to(torch.float64) * 2.0**-31)


def _attempts(word: Word, first: int) -> tuple[Tensor, ...]:
    """The four words of all attempts, [10, B] each."""
    return tuple(torch.stack([word(first + i, w) for i in range(ATTEMPTS)]) for w in range(4))


def _first(fits: Tensor, drawn: Tensor) -> Tensor:
    """[B], of the first attempt that fits."""
    return drawn.gather(0, fits.to(torch.uint8).argmax(0, keepdim=True))[0]


def _side(area: Tensor) -> Tensor:
    return torch.floor(torch.sqrt(area) + 0.5)


def _box(first: Slot, box: Sequence[Tensor | int], like: Tensor) -> dict[int, Tensor]:
    """Top, left, height and width as columns."""
    return {
        first + i: x if isinstance(x, Tensor) else torch.full_like(like, x)
        for i, x in enumerate(box)
    }
