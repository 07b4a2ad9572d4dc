"""The random generator of this package, Philox4x32-10, in plain PyTorch on any device.

csrc/philox.h says which paper it is from, how seed, stream, id and index are laid out in key and
counter, and what is made of the words; this file follows it bit for bit. 32-bit words travel as
int64 tensors, since PyTorch has little arithmetic on unsigned integers.
"""

from __future__ import annotations

from enum import IntEnum

import torch
from torch import Tensor

Words = tuple[Tensor, Tensor, Tensor, Tensor]

_MASK = 0xFFFFFFFF
_ROUNDS = 10
_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)


class Stream(IntEnum):
    """What a draw is for; csrc/philox.h says what the index counts."""

    MASK_TOKEN = 1
    MASK_WORD = 2
    MASK_SPAN = 3
    MASK_BUDGET = 4
    AUGMENT = 5
    AUGMENT_NOISE = 6


def block(seed: int, stream: int, ids: Tensor, index: Tensor, epoch: int = 0) -> Words:
    """The four words of the draws (stream, id, index).

    Args:
        seed: in [0, 2**64), or the signed 64-bit number with the same bits.
        stream: the low byte of word 0 of the counter.
        ids: int64, any value: sequences or samples.
        index: int64 in [0, 2**32), of a shape that broadcasts with ids.
        epoch: the upper 24 bits of word 0: in [0, 2**24).

    Returns:
        Four int64 tensors of the broadcast shape, every element in [0, 2**32).
    """
    ids, index = torch.broadcast_tensors(ids, index)
    counter = (torch.full_like(ids, stream | epoch << 8), ids & _MASK, (ids >> 32) & _MASK, index)
    return philox4x32(counter, (seed & _MASK, (seed >> 32) & _MASK))


def philox4x32(counter: Words, key: tuple[int | Tensor, int | Tensor]) -> Words:
    """The bijection itself, on words in [0, 2**32); counters and keys may broadcast."""
    c0, c1, c2, c3 = counter
    for i in range(_ROUNDS):
        high0, low0 = _multiply(_MULTIPLIERS[0], c0)
        high1, low1 = _multiply(_MULTIPLIERS[1], c2)
        key0, key1 = ((k + i * weyl) & _MASK for k, weyl in zip(key, _WEYL, strict=True))
        c0, c1, c2, c3 = high1 ^ c1 ^ key0, low1, high0 ^ c3 ^ key1, low0
    return c0, c1, c2, c3


def uniform(words: Tensor) -> Tensor:
    """float32 in [0, 1) with 24 random bits."""
    return (words >> 8).to(torch.float32) * 2.0**-24


def below(words: Tensor, n: int | Tensor) -> Tensor:
    """int64 in [0, n), n at most 2**31."""
    return (words * n) >> 32


def threshold(probability: float) -> int:
    """What a word must be below for a yes of this probability: in [0, 2**32]."""
    return round(probability * 2**32)


def _multiply(multiplier: int, x: Tensor) -> tuple[Tensor, Tensor]:
    """High and low word of the product, by halves of the multiplier: 2**64 would overflow int64."""
    upper, lower = x * (multiplier >> 16), x * (multiplier & 0xFFFF)
    high = (upper + (lower >> 16)) >> 16
    low = (((upper & 0xFFFF) << 16) + lower) & _MASK
    return high, low
