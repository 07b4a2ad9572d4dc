"""Strategies that decide on each token alone: "token" and "whole_word". One launch."""

# pyright: reportPossiblyUnboundVariable=false, reportArgumentType=false, reportOperatorIssue=false
# (A kernel is compiled by Triton: names bound under one constant are used under the same one.)

from __future__ import annotations

import triton
import triton.language as tl

from sslkernels import philox_triton
from sslkernels.masking.triton.tokens import (
    NUMBERS,
    TOKEN,
    WORD,
    maskable_tokens,
    write_tokens,
)


@triton.jit(do_not_specialize=NUMBERS)
def mask_tokens_kernel(
    input_ids,
    sequence_ids,
    attention_mask,
    word_ids,
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
    BY_WORD: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """BLOCK positions of a row: the row is the program's first number, the block its second."""
    row = tl.program_id(0)
    positions = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    start = row.to(tl.int64) * length
    sequence = tl.load(sequence_ids + row)
    ids, words, maskable = maskable_tokens(
        input_ids,
        attention_mask,
        word_ids,
        start,
        positions,
        length,
        SPECIAL,
        HAS_ATTENTION,
        BY_WORD,
    )
    own = philox_triton.block(seed, TOKEN, sequence, positions, 0)
    selection = own[0]
    if BY_WORD:
        selection = philox_triton.block(seed, WORD, sequence, words, 0)[0]
    write_tokens(
        masked_ids,
        labels,
        start,
        positions,
        length,
        ids,
        maskable & philox_triton.less(selection, select_below),
        own[1],
        own[2],
        mask_token_id,
        ordinary_count,
        replace_below,
        random_below,
        ignore_index,
        SPECIAL,
    )
