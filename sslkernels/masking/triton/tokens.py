"""What the kernels of masking share: which tokens may be masked, and what becomes of the selected.

The definition is the docstring of `sslkernels.masking.reference.mask_tokens`.
"""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# pyright: reportGeneralTypeIssues=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels import philox_triton
from sslkernels.philox import Stream

TOKEN = tl.constexpr(int(Stream.MASK_TOKEN))
WORD = tl.constexpr(int(Stream.MASK_WORD))
SPAN = tl.constexpr(int(Stream.MASK_SPAN))
BUDGET = tl.constexpr(int(Stream.MASK_BUDGET))

NUMBERS = [
    "seed",
    "mask_token_id",
    "ordinary_count",
    "select_below",
    "replace_below",
    "random_below",
    "ignore_index",
]
"""Arguments that a kernel is not compiled anew for when they happen to be 1 or multiples of 16."""


@triton.jit
def maskable_tokens(
    input_ids,
    attention_mask,
    word_ids,
    start,
    positions,
    length,
    SPECIAL: tl.constexpr,
    HAS_ATTENTION: tl.constexpr,
    HAS_WORDS: tl.constexpr,
):
    """Ids and word ids at some positions of the row that begins at `start`, and who is maskable.

    Word ids are 0 where there are none. SPECIAL: begin and end of each run of special ids, in turn.
    """
    inside = positions < length
    ids = tl.load(input_ids + start + positions, mask=inside, other=0)
    maskable = inside
    for run in tl.static_range(len(SPECIAL) // 2):
        maskable = maskable & ((ids < SPECIAL[2 * run]) | (ids >= SPECIAL[2 * run + 1]))
    if HAS_ATTENTION:
        maskable = maskable & tl.load(attention_mask + start + positions, mask=inside, other=False)
    words = positions * 0
    if HAS_WORDS:
        words = tl.load(word_ids + start + positions, mask=inside, other=-1).to(tl.int32)
        maskable = maskable & (words >= 0)
    return ids, words, maskable


@triton.jit
def write_tokens(
    masked_ids,
    labels,
    start,
    positions,
    length,
    ids,
    selected,
    fate,
    choice,
    mask_token_id,
    ordinary_count,
    replace_below,
    random_below,
    ignore_index,
    SPECIAL: tl.constexpr,
):
    """Writes ids and labels. fate, choice: the words that decide on a selected token."""
    # The id with as many ordinary ones before it: it moves up by every run that begins below it.
    drawn = philox_triton.below(choice, ordinary_count)
    for run in tl.static_range(len(SPECIAL) // 2):
        length_of_run = SPECIAL[2 * run + 1] - SPECIAL[2 * run]
        drawn = tl.where(drawn >= SPECIAL[2 * run], drawn + length_of_run, drawn)
    changed = tl.where(philox_triton.less(fate, random_below), drawn.to(ids.dtype), ids)
    mask_id = tl.zeros_like(ids) + mask_token_id
    changed = tl.where(philox_triton.less(fate, replace_below), mask_id, changed)
    inside = positions < length
    tl.store(masked_ids + start + positions, tl.where(selected, changed, ids), mask=inside)
    ignored = tl.zeros_like(positions).to(tl.int64) + ignore_index
    label = tl.where(selected, ids.to(tl.int64), ignored)
    tl.store(labels + start + positions, label, mask=inside)
