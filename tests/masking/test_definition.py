"""Every implementation gives the integers of the definition."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings

import sslkernels
from sslkernels.masking import op
from tests.masking.by_hand import by_hand, calls, span_length

STRATEGIES = ("token", "whole_word", "span", "span of words")


def large_call(strategy: str) -> dict:
    """A batch of the usual size: more than one tile of draws, padding, words of 1 to 4 tokens."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(30522, (9, 515), generator=generator)
    ids[:, 0], ids[3:, 300:] = 101, 0
    call = {
        "input_ids": ids,
        "attention_mask": (ids != 0).long(),
        "sequence_ids": torch.randint(2**62, (9,), generator=generator),
        "mask_token_id": 103,
        "vocab_size": 30522,
        "special_ids": (0, 100, 101, 102, 103),
        "seed": 2**63 + 12345,
        "strategy": strategy.split(" ", maxsplit=1)[0],
    }
    if "word" in strategy:
        starts = torch.rand(ids.shape, generator=generator) < 0.5
        call["word_ids"] = starts.cumsum(1).masked_fill(ids == 101, -1)
    return call


class TestMaskTokens:
    op = "mask_tokens"  # skips the implementations that cannot run here

    @settings(max_examples=250)
    @given(call=calls())
    def test_by_hand(self, implementation, call):
        masked, labels = sslkernels.mask_tokens(**call)
        expected_masked, expected_labels = by_hand(call)
        assert masked.dtype is call["input_ids"].dtype and labels.dtype is torch.int64
        assert torch.equal(masked, expected_masked)
        assert torch.equal(labels, expected_labels)

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_large(self, implementation, strategy):
        call = large_call(strategy)
        masked, labels = sslkernels.mask_tokens(**call)
        expected_masked, expected_labels = by_hand(call)
        assert torch.equal(masked, expected_masked)
        assert torch.equal(labels, expected_labels)

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("threads", [1, 2, 3])
    def test_any_number_of_threads(self, implementation, strategy, threads):
        call = large_call(strategy)
        expected = sslkernels.mask_tokens(**call)
        before = torch.get_num_threads()
        try:
            torch.set_num_threads(threads)
            masked, labels = sslkernels.mask_tokens(**call)
        finally:
            torch.set_num_threads(before)
        assert torch.equal(masked, expected[0]) and torch.equal(labels, expected[1])


def test_a_known_sequence():
    """Seed 1, sequence 0: the tokens whose word 0 is below 2**31, taken from the paper's rounds."""
    from tests.test_philox import python_rounds

    first = [python_rounds((1, 0, 0, i), (1, 0))[0] for i in range(20)]
    _, labels = sslkernels.mask_tokens(
        torch.arange(5, 25), mask_token_id=4, vocab_size=25, probability=0.5, seed=1
    )
    assert (labels != -100).tolist() == [word < 2**31 for word in first]


def test_span_thresholds():
    thresholds = op.span_thresholds()
    assert len(thresholds) == 9 and thresholds == sorted(thresholds)
    for k, edge in enumerate(thresholds, 1):
        assert (span_length(edge - 1), span_length(edge)) == (k, k + 1)
        assert edge / 2**32 == pytest.approx((1 - 0.8**k) / (1 - 0.8**10), abs=2**-31)
