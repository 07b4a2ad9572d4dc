"""The strategy "span", in three launches, each with what it needs of the one before.

1. `list_kernel` lists the units of the maskable tokens of a row, in order, and counts them.
2. `cover_kernel` writes to each unit the first candidate that covers it.
3. `select_kernel` selects as many tokens as the budget has, in the order of their candidates. In
   place of sorting it looks for the last of them, by halving the range in which it may lie.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels import philox_triton
from sslkernels.masking.triton.tokens import (
    BUDGET,
    NUMBERS,
    SPAN,
    TOKEN,
    maskable_tokens,
    write_tokens,
)


@triton.jit
def list_kernel(
    input_ids,
    attention_mask,
    word_ids,
    units,
    counts,
    length,
    SPECIAL: tl.constexpr,
    HAS_ATTENTION: tl.constexpr,
    HAS_WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """units[row, k]: the unit of maskable token number k; counts[row]. A program is a row."""
    row = tl.program_id(0)
    start = row.to(tl.int64) * length
    units_before, tokens_before = 0, 0
    for first in range(0, length, BLOCK):
        positions = first + tl.arange(0, BLOCK)
        found = maskable_tokens(
            input_ids,
            attention_mask,
            word_ids,
            start,
            positions,
            length,
            SPECIAL,
            HAS_ATTENTION,
            HAS_WORDS,
        )
        words, maskable = found[1], found[2]
        unit = positions
        if HAS_WORDS:
            after_one = (positions > 0) & (positions < length)
            before = tl.load(word_ids + start + positions - 1, mask=after_one, other=0)
            begins = (after_one & (words != before.to(tl.int32))).to(tl.int32)
            unit = units_before + tl.cumsum(begins, 0)
            units_before += tl.sum(begins, 0)
        number = tokens_before + tl.cumsum(maskable.to(tl.int32), 0) - 1
        tokens_before += tl.sum(maskable.to(tl.int32), 0)
        tl.store(units + start + number, unit, mask=maskable)
    tl.store(counts + row, tokens_before)


@triton.jit(do_not_specialize=["seed"])
def cover_kernel(
    sequence_ids,
    units,
    counts,
    owners,
    seed,
    length,
    LONGER_FROM: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """owners[row, unit]: the smallest number of a candidate that covers the unit."""
    row = tl.program_id(0)
    candidates = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = row.to(tl.int64) * length
    count = tl.load(counts + row)
    if tl.program_id(1) * BLOCK >= count:
        return
    draw = philox_triton.block(seed, SPAN, tl.load(sequence_ids + row), candidates, 0)
    place, longer = draw[0], draw[1]
    real = candidates < count
    token = philox_triton.below(place, count)
    first = tl.load(units + start + token, mask=real, other=0)
    size = tl.full((BLOCK,), 1, tl.int32)
    for edge in tl.static_range(len(LONGER_FROM)):
        size += tl.where(longer.to(tl.int64) >= LONGER_FROM[edge], 1, 0)
    # Units past the last one belong to no token.
    for offset in tl.static_range(len(LONGER_FROM) + 1):
        covers = real & (offset < size) & (first + offset < length)
        tl.atomic_min(owners + start + first + offset, candidates, mask=covers, sem="relaxed")


@triton.jit
def _candidates(units, owners, start, numbers, count):
    """The candidate of each maskable token of those numbers; `count` for none."""
    mask = numbers < count
    unit = tl.load(units + start + numbers, mask=mask, other=0)
    owner = tl.load(owners + start + unit, mask=mask, other=0)
    return tl.minimum(owner, count)


@triton.jit
def _last_selected(units, owners, start, count, budget, length, BLOCK: tl.constexpr):
    """The `budget`-th smallest of `candidate * length + number` of the maskable tokens."""
    low = budget * 0
    high = (count + 1).to(tl.int64) * length
    while low < high:
        middle = (low + high) // 2
        smaller = low * 0
        for first in range(0, count, BLOCK):
            numbers = first + tl.arange(0, BLOCK)
            candidate = _candidates(units, owners, start, numbers, count)
            key = candidate.to(tl.int64) * length + numbers
            smaller += tl.sum(((numbers < count) & (key <= middle)).to(tl.int64), 0)
        enough = smaller >= budget
        high = tl.where(enough, middle, high)
        low = tl.where(enough, low, middle + 1)
    return low


@triton.jit(do_not_specialize=NUMBERS)
def select_kernel(
    input_ids,
    sequence_ids,
    attention_mask,
    word_ids,
    units,
    counts,
    owners,
    masked_ids,
    labels,
    seed,
    length,
    mask_token_id,
    ordinary_count,
    select_below,
    replace_below,
    random_below,
    ignore_index,
    SPECIAL: tl.constexpr,
    HAS_ATTENTION: tl.constexpr,
    HAS_WORDS: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Ids and labels of a row."""
    row = tl.program_id(0)
    start = row.to(tl.int64) * length
    sequence = tl.load(sequence_ids + row)
    count = tl.load(counts + row)
    rounding = philox_triton.block(seed, BUDGET, sequence, row * 0, 0)[0]
    budget = (count.to(tl.int64) * select_below + rounding.to(tl.int64)) >> 32
    last = _last_selected(units, owners, start, count, budget, length, BLOCK)
    tokens_before = 0
    for first in range(0, length, BLOCK):
        positions = first + tl.arange(0, BLOCK)
        found = maskable_tokens(
            input_ids,
            attention_mask,
            word_ids,
            start,
            positions,
            length,
            SPECIAL,
            HAS_ATTENTION,
            HAS_WORDS,
        )
        ids, maskable = found[0], found[2]
        numbers = tokens_before + tl.cumsum(maskable.to(tl.int32), 0) - 1
        tokens_before += tl.sum(maskable.to(tl.int32), 0)
        numbers = tl.where(maskable, numbers, count)
        candidate = _candidates(units, owners, start, numbers, count)
        key = candidate.to(tl.int64) * length + numbers
        fate = philox_triton.block(seed, SPAN, sequence, candidate, 0)[2]
        choice = philox_triton.block(seed, TOKEN, sequence, positions, 0)[2]
        write_tokens(
            masked_ids,
            labels,
            start,
            positions,
            length,
            ids,
            maskable & (budget > 0) & (key <= last),
            fate,
            choice,
            mask_token_id,
            ordinary_count,
            replace_below,
            random_below,
            ignore_index,
            SPECIAL,
        )
