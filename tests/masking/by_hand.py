"""Token masking as a sequential program in Python's own integers, written from the docstring of
sslkernels/masking/reference.py; and drawn arguments for it."""

from __future__ import annotations

from typing import Any

import torch
from hypothesis import strategies as st

from tests.test_philox import python_rounds

TOKEN, WORD, SPAN, BUDGET = 1, 2, 3, 4  # the streams of csrc/philox.h


def draw(seed: int, stream: int, sequence: int, index: int) -> tuple[int, ...]:
    unsigned = sequence % 2**64
    counter = (stream, unsigned % 2**32, unsigned // 2**32, index)
    return python_rounds(counter, (seed % 2**32, seed // 2**32))


def span_length(word: int) -> int:
    """Smallest k with word < 2**32 P(length <= k), geometric with p = 0.2, cut after 10."""
    length = 1
    while word >= (10**10 - 8**length * 10 ** (10 - length)) * 2**32 // (10**10 - 8**10):
        length += 1
    return length


def mask_sequence(
    ids: list[int],
    *,
    sequence: int,
    seed: int,
    mask_token_id: int,
    vocab_size: int,
    special_ids: tuple[int, ...] = (),
    probability: float = 0.15,
    replace: float = 0.8,
    random: float = 0.1,
    ignore_index: int = -100,
    strategy: str = "token",
    attention: list[bool] | None = None,
    words: list[int] | None = None,
) -> tuple[list[int], list[int]]:
    """Masked ids and labels of one sequence."""
    specials = {mask_token_id, *special_ids}
    maskable = [
        i
        for i, token in enumerate(ids)
        if token not in specials
        and (attention is None or attention[i])
        and (words is None or words[i] >= 0)
    ]
    fates: dict[int, int] = {}  # of the selected
    if strategy == "token":
        for i in maskable:
            own = draw(seed, TOKEN, sequence, i)
            if own[0] < round(probability * 2**32):
                fates[i] = own[1]
    elif strategy == "whole_word":
        for i in maskable:
            if draw(seed, WORD, sequence, words[i])[0] < round(probability * 2**32):
                fates[i] = draw(seed, TOKEN, sequence, i)[1]
    else:
        rounding = draw(seed, BUDGET, sequence, 0)[0]
        budget = (len(maskable) * round(probability * 2**32) + rounding) // 2**32
        units = list(range(len(ids)))
        if words is not None:
            units = [0] * len(ids)
            for i in range(1, len(ids)):
                units[i] = units[i - 1] + (words[i] != words[i - 1])
        for t in range(len(maskable) + 1):
            start, length, fate, _ = draw(seed, SPAN, sequence, t)
            covered = set(units)  # the last candidate is the rest of the sequence
            if t < len(maskable):
                first = units[maskable[start * len(maskable) // 2**32]]
                covered = set(range(first, first + span_length(length)))
            for i in maskable:
                if len(fates) < budget and units[i] in covered:
                    fates.setdefault(i, fate)
    masked, labels = list(ids), [ignore_index] * len(ids)
    ordinary = [token for token in range(vocab_size) if token not in specials]
    for i, fate in fates.items():
        labels[i] = ids[i]
        if fate < round(replace * 2**32):
            masked[i] = mask_token_id
        elif fate < round((replace + random) * 2**32):
            word = draw(seed, TOKEN, sequence, i)[2]
            masked[i] = ordinary[word * len(ordinary) // 2**32]
    return masked, labels


@st.composite
def calls(draw_: Any, longest: int = 40) -> dict[str, Any]:
    """Arguments of `sslkernels.mask_tokens`, of every strategy and layout."""
    value = lambda strategy: draw_(strategy)  # noqa: E731
    batch, length = value(st.integers(0, 5)), value(st.integers(0, longest))
    vocab_size = value(st.sampled_from([2, 3, 7, 50, 30522]))
    generator = torch.Generator().manual_seed(value(st.integers(0, 2**31)))
    dtype = value(st.sampled_from([torch.int64, torch.int32]))
    call: dict[str, Any] = {
        "input_ids": _laid_out(
            torch.randint(vocab_size, (batch, length), generator=generator).to(dtype),
            value(st.sampled_from(["plain", "transposed", "every second"])),
        ),
        "mask_token_id": value(st.integers(0, vocab_size - 1)),
        "vocab_size": vocab_size,
        "probability": value(st.sampled_from([0.0, 0.15, 0.5, 1.0]) | st.floats(0, 1)),
        "seed": value(st.integers(0, 2**64 - 1)),
        "ignore_index": value(st.sampled_from([-100, 0, -(2**63)])),
        "strategy": value(st.sampled_from(["token", "whole_word", "span"])),
    }
    some = st.lists(st.integers(0, vocab_size - 1), max_size=6)
    call["special_ids"] = tuple(value(some))
    call["replace"] = value(st.sampled_from([0.0, 0.8, 1.0]) | st.floats(0, 1))
    left = len({call["mask_token_id"], *call["special_ids"]}) < vocab_size
    call["random"] = value(st.floats(0, 1 - call["replace"])) if left else 0.0
    if value(st.booleans()):
        call["sequence_ids"] = torch.tensor(
            value(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=batch, max_size=batch)),
            dtype=torch.int64,
        )
    if value(st.booleans()):
        mask = torch.rand(batch, length, generator=generator) < value(st.floats(0, 1))
        call["attention_mask"] = mask.to(value(st.sampled_from([torch.bool, torch.int64])))
    if call["strategy"] == "whole_word" or (call["strategy"] == "span" and value(st.booleans())):
        steps = torch.randint(-1, 2, (batch, length), generator=generator)
        call["word_ids"] = (steps.cumsum(1).clamp(min=-1) - (steps == 0).int()).clamp(min=-1)
    return call


def _laid_out(x: torch.Tensor, layout: str) -> torch.Tensor:
    """The same values with other strides."""
    if layout == "transposed":
        return x.T.contiguous().T
    if layout == "every second":
        return torch.stack([x, x], 2).flatten(1)[:, ::2]
    return x


def by_hand(call: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    """`mask_tokens(**call)`, sequence by sequence."""
    call = dict(call)
    ids = call.pop("input_ids")
    sequences = call.pop("sequence_ids", torch.arange(ids.shape[0])).tolist()
    attention, words = call.pop("attention_mask", None), call.pop("word_ids", None)
    masked, labels = torch.empty_like(ids), torch.empty(ids.shape, dtype=torch.int64)
    for row, sequence in enumerate(sequences):
        one = mask_sequence(
            ids[row].tolist(),
            sequence=sequence,
            attention=None if attention is None else attention[row].bool().tolist(),
            words=None if words is None else words[row].tolist(),
            **call,
        )
        masked[row], labels[row] = (torch.tensor(x, dtype=torch.int64) for x in one)
    return masked, labels
