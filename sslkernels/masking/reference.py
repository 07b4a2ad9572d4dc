"""The definition of token masking, in plain PyTorch on any device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from sslkernels import philox
from sslkernels.philox import Stream


def mask_tokens(
    input_ids: Tensor,
    sequence_ids: Tensor,
    attention_mask: Tensor | None,
    word_ids: Tensor | None,
    mask_token_id: int,
    vocab_size: int,
    special_ids: Sequence[int],
    seed: int,
    strategy: str,
    select_below: int,
    replace_below: int,
    random_below: int,
    longer_from: Sequence[int],
    ignore_index: int,
) -> tuple[Tensor, Tensor]:
    """Masked ids and labels; every other implementation gives the same integers.

    Words of 32 bits are drawn by `philox.block(seed, stream, sequence id, index)`; `below(word, n)`
    is `(word * n) >> 32`. A token is *maskable* when attention_mask is not 0, its id is not in
    special_ids and, where word_ids are given, its word id is not negative.

    Which maskable tokens are selected, and the *fate* word of each:

    - "token": word 0 of (MASK_TOKEN, position) is below select_below. Fate: word 1.
    - "whole_word": word 0 of (MASK_WORD, word id) is below select_below, so that all tokens of a
      word share it. Fate: word 1 of (MASK_TOKEN, position), each token its own.
    - "span", with n the number of maskable tokens of the sequence:
      The budget is `(n * select_below + x) >> 32`, x being word 0 of (MASK_BUDGET, 0): n times the
      probability, rounded up or down at random so that it is right on average.
      A *unit* is a position, or with word_ids a run of equal word ids.
      Candidate t = 0 ... n - 1, with b the block of (MASK_SPAN, t), starts at the unit of maskable
      token number `below(b[0], n)` and has 1 + (how many of longer_from are <= b[1]) units, fewer
      at the end of the sequence. Each token belongs to the first candidate that covers it, or else
      to number n. Of the maskable tokens, ordered by candidate and then by position, the first
      `budget` are selected. Fate: b[2] of the token's candidate, so that a span shares it.

    A selected token becomes mask_token_id if its fate is below replace_below, else, if its fate is
    below random_below, an id drawn uniformly from those not in special_ids: the one that has
    `below(word 2 of (MASK_TOKEN, position), vocab_size - len(special_ids))` such ids before it.
    Otherwise it stays. Its label is its id; the label of all other tokens is ignore_index.

    Nothing depends on columns after the last maskable token: padding may be added or removed.

    Args:
        input_ids: [B, S], int64 or int32.
        sequence_ids: [B] int64.
        attention_mask: None or [B, S] bool.
        word_ids: None or [B, S] int64, below 2**31.
        mask_token_id: a member of special_ids.
        vocab_size: at most 2**31.
        special_ids: ascending, without repetition.
        seed: 64 bits, signed or unsigned.
        strategy: "token", "whole_word" or "span".
        select_below, replace_below, random_below: in [0, 2**32].
        longer_from: ascending; what a span's length draw is compared with.
        ignore_index: fits int64.

    Returns:
        masked_ids, [B, S] with the dtype of input_ids, and labels, [B, S] int64.
    """
    device, length = input_ids.device, input_ids.shape[1]
    specials = torch.tensor(special_ids, dtype=torch.int64, device=device)
    sequences = sequence_ids[:, None]
    positions = torch.arange(length, device=device)

    maskable = ~torch.isin(input_ids, specials)
    if attention_mask is not None:
        maskable &= attention_mask
    if word_ids is not None:
        maskable &= word_ids >= 0

    own = philox.block(seed, Stream.MASK_TOKEN, sequences, positions)
    fate = own[1]
    if strategy == "token":
        selected = maskable & (own[0] < select_below)
    elif strategy == "whole_word":
        assert word_ids is not None
        word = philox.block(seed, Stream.MASK_WORD, sequences, word_ids.clamp(min=0))
        selected = maskable & (word[0] < select_below)
    else:
        unit = positions.expand_as(input_ids) if word_ids is None else _runs(word_ids)
        selected, candidate = _spans(seed, sequences, maskable, unit, select_below, longer_from)
        fate = philox.block(seed, Stream.MASK_SPAN, sequences, candidate)[2]

    # An id has as many ordinary ids before it as itself, less the special ones before it.
    rank = philox.below(own[2], vocab_size - len(special_ids))
    before = specials - torch.arange(len(special_ids), device=device)
    drawn = rank + torch.searchsorted(before, rank, right=True)

    changed = torch.where(fate < random_below, drawn.to(input_ids.dtype), input_ids)
    changed = changed.masked_fill(fate < replace_below, mask_token_id)
    masked_ids = torch.where(selected, changed, input_ids)
    labels = input_ids.to(torch.int64).masked_fill(~selected, ignore_index)
    return masked_ids, labels


def _runs(word_ids: Tensor) -> Tensor:
    """Number of the run of equal values that each element is in, counted from 0 in each row."""
    starts = torch.zeros_like(word_ids)
    starts[:, 1:] = word_ids[:, 1:] != word_ids[:, :-1]
    return starts.cumsum(1)


def _spans(
    seed: int,
    sequences: Tensor,
    maskable: Tensor,
    unit: Tensor,
    select_below: int,
    longer_from: Sequence[int],
) -> tuple[Tensor, Tensor]:
    """Whether each token is selected, and the candidate that it belongs to."""
    batch, length = maskable.shape
    count = maskable.sum(1, keepdim=True)
    zero = torch.zeros_like(sequences)
    rounding = philox.block(seed, Stream.MASK_BUDGET, sequences, zero)[0]
    budget = (count * select_below + rounding) >> 32

    candidates = torch.arange(length, device=maskable.device)
    draw = philox.block(seed, Stream.MASK_SPAN, sequences, candidates)
    maskable_first = maskable.logical_not().to(torch.uint8).argsort(dim=1, stable=True)
    start = unit.gather(1, maskable_first.gather(1, philox.below(draw[0], count)))
    units = 1 + sum((draw[1] >= edge).to(torch.int64) for edge in longer_from)

    # The first candidate that covers each unit, for all offsets from a span's start in turn.
    longest = 1 + len(longer_from)
    owner = count.repeat(1, length + longest)
    for offset in range(longest):
        covering = torch.where((candidates < count) & (offset < units), candidates, count)
        owner.scatter_reduce_(1, start + offset, covering, "amin")
    candidate = owner.gather(1, unit)

    order = candidate.masked_fill(~maskable, length + 1).argsort(dim=1, stable=True)
    rank = torch.empty_like(order).scatter_(1, order, candidates.expand(batch, length))
    return maskable & (rank < budget), candidate
