"""The arguments of `mask_tokens`: checked, and in the form that its operators take."""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from sslkernels import checks

INTEGERS = (torch.int64, torch.int32)
MASKS = (torch.bool, torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


def numbers(
    mask_token_id: object,
    vocab_size: object,
    probability: object,
    replace: object,
    random: object,
    ignore_index: object,
    seed: object,
) -> None:
    """Every scalar is a number of its range."""
    checks.integer("mask_tokens", "vocab_size", vocab_size, 1, 2**31)
    assert isinstance(vocab_size, int)
    checks.integer("mask_tokens", "mask_token_id", mask_token_id, 0, vocab_size - 1)
    checks.integer("mask_tokens", "ignore_index", ignore_index, -(2**63), 2**63 - 1)
    checks.integer("mask_tokens", "seed", seed, 0, 2**64 - 1)
    for name, value in (("probability", probability), ("replace", replace), ("random", random)):
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"mask_tokens: {name} must be a float, got {type(value).__name__}")
        if not 0 <= value <= 1:
            raise ValueError(f"mask_tokens: {name} must lie in [0, 1], got {value}")
    assert isinstance(replace, (int, float)) and isinstance(random, (int, float))
    if replace + random > 1:
        raise ValueError(
            f"mask_tokens: replace + random must be at most 1, got {replace} + {random}"
        )


def specials(special_ids: object, mask_token_id: int, vocab_size: int, random: float) -> list[int]:
    """special_ids and mask_token_id, ascending, each once."""
    if not isinstance(special_ids, Collection) or isinstance(special_ids, (str, Tensor)):
        raise TypeError(
            f"mask_tokens: special_ids must be a tuple of ints, got {type(special_ids).__name__}"
        )
    for value in special_ids:
        checks.integer("mask_tokens", "special_ids", value, 0, vocab_size - 1)
    distinct = sorted({mask_token_id, *special_ids})
    if random > 0 and len(distinct) == vocab_size:
        raise ValueError(
            f"mask_tokens: special_ids and mask_token_id are all {vocab_size} ids of the "
            "vocabulary: none is left to draw; pass random=0"
        )
    return distinct


def ids(input_ids: object, vocab_size: int) -> None:
    """input_ids is [B, S] or [S] of integers; inside the vocabulary where that can be seen."""
    checks.tensor("mask_tokens", "input_ids", input_ids)
    assert isinstance(input_ids, Tensor)
    if input_ids.dim() not in (1, 2):
        raise ValueError(
            f"mask_tokens: input_ids must be [batch, length] or [length], "
            f"got {list(input_ids.shape)}"
        )
    _dtype("input_ids", input_ids, INTEGERS)
    _range("input_ids", input_ids, 0, vocab_size)


def sequences(sequence_ids: object, input_ids: Tensor) -> Tensor:
    """[B] int64, contiguous."""
    batch = input_ids.shape[0] if input_ids.dim() == 2 else 1
    if sequence_ids is None:
        return torch.arange(batch, device=input_ids.device)
    checks.tensor("mask_tokens", "sequence_ids", sequence_ids)
    assert isinstance(sequence_ids, Tensor)
    alone = input_ids.dim() == 1 and sequence_ids.dim() == 0
    if not alone and sequence_ids.shape != (batch,):
        raise ValueError(
            f"mask_tokens: sequence_ids must have shape [{batch}], got {list(sequence_ids.shape)}"
        )
    _dtype("sequence_ids", sequence_ids, INTEGERS)
    checks.same_device("mask_tokens", "sequence_ids", sequence_ids, "input_ids", input_ids)
    return sequence_ids.reshape(batch).to(torch.int64).contiguous()


def attention(attention_mask: object, input_ids: Tensor) -> Tensor:
    """Shape of input_ids, bool."""
    attention_mask = _like_ids("attention_mask", attention_mask, input_ids, MASKS)
    return attention_mask if attention_mask.dtype is torch.bool else attention_mask != 0


def words(word_ids: object, input_ids: Tensor, strategy: str) -> Tensor | None:
    """Shape of input_ids, int64; None where the strategy makes do without."""
    if word_ids is None:
        if strategy == "whole_word":
            raise ValueError("mask_tokens: word_ids must be given for strategy 'whole_word'")
        return None
    if strategy == "token":
        raise ValueError("mask_tokens: word_ids have no use for strategy 'token'; pass None")
    checked = _like_ids("word_ids", word_ids, input_ids, INTEGERS)
    _range("word_ids", checked, -1, 2**31)
    return checked.to(torch.int64)


def _like_ids(
    name: str, value: object, input_ids: Tensor, dtypes: tuple[torch.dtype, ...]
) -> Tensor:
    checks.tensor("mask_tokens", name, value)
    assert isinstance(value, Tensor)
    if value.shape != input_ids.shape:
        raise ValueError(
            f"mask_tokens: {name} must have the shape of input_ids, {list(input_ids.shape)}, "
            f"got {list(value.shape)}"
        )
    _dtype(name, value, dtypes)
    checks.same_device("mask_tokens", name, value, "input_ids", input_ids)
    return value


def _dtype(name: str, value: Tensor, dtypes: tuple[torch.dtype, ...]) -> None:
    if value.dtype not in dtypes:
        wanted = ", ".join(str(dtype).removeprefix("torch.") for dtype in dtypes)
        came = str(value.dtype).removeprefix("torch.")
        raise TypeError(f"mask_tokens: {name} must be one of {wanted}, got {came}")


def _range(name: str, value: Tensor, low: int, end: int) -> None:
    """All values in [low, end), looked at only where that costs no synchronisation."""
    if not value.is_cpu or torch.compiler.is_compiling() or value.numel() == 0:
        return
    smallest, largest = torch.aminmax(value)
    try:
        found = (smallest.item(), largest.item())
    except RuntimeError:  # vmapped or fake: no number to look at
        return
    for number in found:
        if not low <= number < end:
            raise ValueError(f"mask_tokens: {name} must lie in [{low}, {end}), got {number}")
