"""`mask_tokens` on the Triton kernels: signature and results of the chunked operator.

Special ids are constants of a kernel, as runs of consecutive ones: no copy to the GPU, for which
the host would wait. A tokenizer has two or three runs; what has more than 16 takes the path in
plain PyTorch.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import torch
import triton
from torch import Tensor
from torch.library import wrap_triton

from sslkernels.masking import reference
from sslkernels.masking.triton import single, spans
from sslkernels.operators import on_device

_MOST_RUNS = 16
_TOKENS, _WARPS = 512, 4
"""Positions of a program, and its warps: enough loads on their way, and a few blocks of draws for
each thread."""
_LONGEST_BLOCK = 1024
_NOBODY = 2**31 - 1


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
    """Masked ids [B, S] with the dtype of input_ids, and labels [B, S] int64."""
    runs = _runs(special_ids)
    if len(runs) > 2 * _MOST_RUNS:
        return reference.mask_tokens(
            input_ids,
            sequence_ids,
            attention_mask,
            word_ids,
            mask_token_id,
            vocab_size,
            special_ids,
            seed,
            strategy,
            select_below,
            replace_below,
            random_below,
            longer_from,
            ignore_index,
        )
    masked_ids = torch.empty_like(input_ids)
    labels = torch.empty_like(input_ids, dtype=torch.int64)
    batch, length = input_ids.shape
    if batch == 0 or length == 0:
        return masked_ids, labels
    numbers = {
        "seed": seed,
        "length": length,
        "mask_token_id": mask_token_id,
        "ordinary_count": vocab_size - len(special_ids),
        "select_below": select_below,
        "replace_below": replace_below,
        "random_below": random_below,
        "ignore_index": ignore_index,
    }
    maskable = {"SPECIAL": runs, "HAS_ATTENTION": attention_mask is not None}
    tensors = (input_ids, sequence_ids, attention_mask, word_ids)
    with on_device(input_ids):
        if strategy == "span":
            _mask_spans(tensors, masked_ids, labels, numbers, maskable, tuple(longer_from))
        else:
            wrap_triton(single.mask_tokens_kernel)[batch, triton.cdiv(length, _TOKENS)](
                *tensors,
                masked_ids,
                labels,
                **numbers,
                **maskable,
                BY_WORD=strategy == "whole_word",
                BLOCK=_TOKENS,
                num_warps=_WARPS,
            )
    return masked_ids, labels


def _mask_spans(
    tensors: tuple[Tensor, Tensor, Tensor | None, Tensor | None],
    masked_ids: Tensor,
    labels: Tensor,
    numbers: dict[str, int],
    maskable: dict[str, Any],
    longer_from: tuple[int, ...],
) -> None:
    input_ids, sequence_ids, attention_mask, word_ids = tensors
    batch, length = input_ids.shape
    units = torch.empty_like(input_ids, dtype=torch.int32)
    counts = torch.empty_like(sequence_ids, dtype=torch.int32)
    owners = torch.full_like(input_ids, _NOBODY, dtype=torch.int32)
    maskable = maskable | {"HAS_WORDS": word_ids is not None}
    whole = {"BLOCK": min(_LONGEST_BLOCK, triton.next_power_of_2(length)), "num_warps": _WARPS}
    wrap_triton(spans.list_kernel)[(batch,)](
        input_ids, attention_mask, word_ids, units, counts, length, **maskable, **whole
    )
    wrap_triton(spans.cover_kernel)[batch, triton.cdiv(length, _TOKENS)](
        sequence_ids,
        units,
        counts,
        owners,
        numbers["seed"],
        length,
        LONGER_FROM=longer_from,
        BLOCK=_TOKENS,
        num_warps=_WARPS,
    )
    wrap_triton(spans.select_kernel)[(batch,)](
        *tensors, units, counts, owners, masked_ids, labels, **numbers, **maskable, **whole
    )


def _runs(special_ids: Sequence[int]) -> tuple[int, ...]:
    """Begin and end of each run of consecutive numbers, in turn."""
    groups = itertools.groupby(enumerate(special_ids), key=lambda x: x[1] - x[0])
    runs = ([number for _, number in group] for _, group in groups)
    return tuple(edge for run in runs for edge in (run[0], run[-1] + 1))
