"""`mask_tokens`: checks, choice of implementation, and the registered operator.

C++ is `torch.ops.sslkernels.mask_tokens`, Triton `torch.ops.sslkernels_triton.mask_tokens`;
`torch.ops.sslkernels_chunked.mask_tokens` is the reference's code as an operator: its memory is
linear anyway, so there is nothing to cut in chunks.
"""

from __future__ import annotations

from collections.abc import Collection

import torch
from torch import Tensor

from sslkernels import backends
from sslkernels.masking import arguments, reference
from sslkernels.operators import (
    NAMESPACES,
    complete_native,
    define_chunked,
    define_triton,
)
from sslkernels.philox import threshold

STRATEGIES = ("token", "whole_word", "span")

LONGEST_SPAN = 10


def mask_tokens(
    input_ids: Tensor,
    *,
    mask_token_id: int,
    vocab_size: int,
    probability: float = 0.15,
    replace: float = 0.8,
    random: float = 0.1,
    special_ids: Collection[int] = (),
    ignore_index: int = -100,
    seed: int,
    sequence_ids: Tensor | None = None,
    attention_mask: Tensor | None = None,
    strategy: str = "token",
    word_ids: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Select tokens for masked-language-model training and corrupt them by BERT's rule.

    Of the selected tokens a share of `replace` becomes mask_token_id, a share of `random` an id
    drawn uniformly from the vocabulary without its special ids, and the rest stays.

    What is drawn depends on nothing but (seed, sequence id, position): not on how the data is cut
    into batches, nor on the number of workers or threads, the device or the implementation. Two
    consequences: without sequence_ids the same row of every batch is masked at the same places, so
    give each example its number in the data set; and an example is masked anew, as in every
    epoch of RoBERTa, only under another seed.

    Args:
        input_ids: [B, S] or [S], int64 or int32.
        mask_token_id: the id that replaces; it is one of the special ids, named there or not.
        vocab_size: at most 2**31; all ids lie in [0, vocab_size).
        probability: share of the tokens, special ones and padding aside, that is selected.
        replace, random: shares of the selected tokens; their sum is at most 1.
        special_ids: ids that are never selected and never drawn.
        ignore_index: the label of every token that is not selected.
        seed: in [0, 2**64).
        sequence_ids: [B] int64, any values (one element when input_ids is [S]); by default 0, 1,
            ... B - 1.
        attention_mask: shape of input_ids, bool or integer; where it is 0 is padding, which is
            never selected.
        strategy: "token": each token on its own, with `probability`. "whole_word": each word on its
            own, all its tokens together; what they become is drawn for each token. "span": spans of
            1 to 10 tokens, or words where word_ids are given, until `probability` times the number
            of tokens is reached, the last span cut to fit; lengths are geometric with p = 0.2, and
            the tokens of a span are replaced together, drawn at random together, or all stay.
        word_ids: shape of input_ids, int64 or int32, the word that each token is part of and -1
            for none: such tokens are never selected. Required for "whole_word", optional for
            "span". Below 2**31, and not to start anew at the second sentence of a pair: words of
            one number are one word to "whole_word".

    Returns:
        (masked_ids, labels): the corrupted ids, with the dtype and shape of input_ids, and the
        labels, int64 of the same shape: the original id where a token was selected, else
        ignore_index.

    Raises:
        TypeError: a tensor or a number of the wrong type.
        ValueError: a number out of its range, replace and random above 1 together, an unknown
            strategy, no id left to draw while random is positive, a tensor of the wrong shape or
            device, word_ids missing or without use; on the CPU also an id outside the vocabulary.

    `sslkernels.masking.reference.mask_tokens` is the exact definition. Papers: BERT, arXiv
    1810.04805; whole words: google-research/bert; spans: SpanBERT, arXiv 1907.10529.
    """
    arguments.numbers(mask_token_id, vocab_size, probability, replace, random, ignore_index, seed)
    specials = arguments.specials(special_ids, mask_token_id, vocab_size, random)
    if strategy not in STRATEGIES:
        raise ValueError(
            f"mask_tokens: strategy must be one of {', '.join(STRATEGIES)}, got {strategy!r}"
        )
    arguments.ids(input_ids, vocab_size)
    sequence_ids = arguments.sequences(sequence_ids, input_ids)
    if attention_mask is not None:
        attention_mask = arguments.attention(attention_mask, input_ids)
    word_ids = arguments.words(word_ids, input_ids, strategy)

    name = backends.choose("mask_tokens", input_ids)
    run = reference.mask_tokens if name == "reference" else NAMESPACES[name].mask_tokens.default
    masked_ids, labels = run(
        _rows(input_ids),
        sequence_ids,
        None if attention_mask is None else _rows(attention_mask),
        None if word_ids is None else _rows(word_ids),
        mask_token_id,
        vocab_size,
        specials,
        seed if seed < 2**63 else seed - 2**64,  # operators take signed numbers
        strategy,
        threshold(probability),
        threshold(replace),
        threshold(replace + random),
        span_thresholds(),
        ignore_index,
    )
    return masked_ids.view(input_ids.shape), labels.view(input_ids.shape)


def span_thresholds() -> list[int]:
    """For each k below the longest span, what a word is below when a span has at most k units.

    P(at most k) = (1 - 0.8**k) / (1 - 0.8**10), the geometric distribution without its tail, in
    units of 2**-32 and in integers, so that no rounding of floats is part of the definition.
    """
    whole, tail = 5**LONGEST_SPAN, 4**LONGEST_SPAN
    return [
        (whole - 4**k * 5 ** (LONGEST_SPAN - k)) * 2**32 // (whole - tail)
        for k in range(1, LONGEST_SPAN)
    ]


def _rows(x: Tensor) -> Tensor:
    """[S] as [1, S]; contiguous."""
    return (x if x.dim() == 2 else x[None]).contiguous()


def _fake_mask_tokens(input_ids, *_):
    return torch.empty_like(input_ids), torch.empty_like(input_ids, dtype=torch.int64)


define_chunked(
    "mask_tokens",
    "(Tensor input_ids, Tensor sequence_ids, Tensor? attention_mask, Tensor? word_ids,"
    " int mask_token_id, int vocab_size, int[] special_ids, SymInt seed, str strategy,"
    " int select_below, int replace_below, int random_below, int[] longer_from, int ignore_index)"
    " -> (Tensor masked_ids, Tensor labels)",
    reference.mask_tokens,
    _fake_mask_tokens,
)
backends.add("mask_tokens", lambda: complete_native(mask_tokens=_fake_mask_tokens))
backends.add_triton(
    ("mask_tokens",),
    lambda: define_triton("sslkernels.masking.triton.operators", mask_tokens=_fake_mask_tokens),
    dtypes=arguments.INTEGERS,
)
backends.add_cuda("mask_tokens")
