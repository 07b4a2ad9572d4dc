"""Rates, lengths and drawn ids lie within the bounds of their distributions."""

from __future__ import annotations

import math

import pytest
import torch

from sslkernels import mask_tokens

# Beyond this many standard deviations a right program falls once in 500,000 seeds; these are fixed.
SIGMAS = 4.8
SHAPE = (512, 256)
IDS = torch.randint(5, 1000, SHAPE, generator=torch.Generator().manual_seed(0))
VOCABULARY = {"mask_token_id": 4, "vocab_size": 1000, "special_ids": (0, 1, 2, 3)}


def assert_rate(hits: int, trials: int, probability: float, cluster: float = 1.0) -> None:
    """`hits` of `trials` within the binomial's bounds; `cluster` tokens share a draw."""
    deviation = math.sqrt(cluster * trials * probability * (1 - probability))
    assert abs(hits - trials * probability) <= SIGMAS * deviation, (hits / trials, probability)


def shares(seed: int, **options) -> tuple[int, int, int, int]:
    """How many tokens were selected, replaced, changed at random, and stayed."""
    masked, labels = mask_tokens(IDS, seed=seed, **VOCABULARY, **options)
    selected = labels != -100
    replaced, stayed = selected & (masked == 4), selected & (masked == IDS)
    count = int(selected.sum())
    counts = (int(replaced.sum()), int((selected & ~replaced & ~stayed).sum()), int(stayed.sum()))
    return count, *counts


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("probability", [0.15, 0.02, 0.6])
@pytest.mark.parametrize(("replace", "random"), [(0.8, 0.1), (0.5, 0.5), (0.2, 0.3)])
def test_rates_of_tokens(seed, probability, replace, random):
    options = {"probability": probability, "replace": replace, "random": random}
    selected, replaced, changed, stayed = shares(seed, **options)
    assert_rate(selected, IDS.numel(), probability)
    assert_rate(replaced, selected, replace)
    # One in 995 of the drawn ids is the old one.
    assert_rate(changed, selected, random * 994 / 995)
    assert replaced + changed + stayed == selected


@pytest.mark.parametrize("seed", range(3))
def test_rates_of_whole_words(seed):
    words = (torch.arange(SHAPE[1]) // 4).expand(SHAPE)
    selected, replaced, changed, _ = shares(seed, strategy="whole_word", word_ids=words)
    assert_rate(selected, IDS.numel(), 0.15, cluster=4)
    assert_rate(replaced, selected, 0.8)
    assert_rate(changed, selected, 0.1 * 994 / 995)


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("length", [3, 10, 256])
def test_rates_of_spans(seed, length):
    """Right on average even where a sequence is too short for one whole token of its budget."""
    rows = IDS.numel() // length
    ids = IDS.flatten()[: rows * length].reshape(rows, length)
    masked, labels = mask_tokens(ids, seed=seed, strategy="span", **VOCABULARY)
    selected = int((labels != -100).sum())
    # What is random in the count is the rounding of the budget alone, once a sequence.
    budget = 0.15 * length
    assert_rate(selected - rows * int(budget), rows, budget - int(budget))
    assert_rate(int((masked == 4).sum()), selected, 0.8, cluster=10)


def test_spans_start_anywhere():
    ids = torch.full((30000, 20), 9)
    _, labels = mask_tokens(ids, seed=2, strategy="span", probability=0.05, **VOCABULARY)
    places = (labels != -100).nonzero()[:, 1]  # a budget of one: the start of the first span
    assert places.numel() == 30000
    for count in places.bincount(minlength=20).tolist():
        assert_rate(count, 30000, 1 / 20)


def test_positions_are_alike_and_independent():
    _, labels = mask_tokens(IDS, seed=3, **VOCABULARY)
    selected = labels != -100
    for count in selected.sum(0).tolist():
        assert_rate(count, SHAPE[0], 0.15)
    assert_rate(int((selected[:, 1:] & selected[:, :-1]).sum()), 512 * 255, 0.15**2)
    assert_rate(int((selected[1:] & selected[:-1]).sum()), 511 * 256, 0.15**2)


def test_drawn_ids_are_uniform():
    masked, _ = mask_tokens(
        IDS,
        seed=4,
        probability=1.0,
        replace=0.0,
        random=1.0,
        mask_token_id=7,
        vocab_size=1000,
        special_ids=(0, 500, 999),
    )
    maskable = ~torch.isin(IDS, torch.tensor([7, 0, 500, 999]))
    counts = masked[maskable].bincount(minlength=1000)
    assert counts[[0, 7, 500, 999]].tolist() == [0, 0, 0, 0]
    ordinary = counts[counts > 0]
    assert ordinary.numel() == 996
    expected = int(maskable.sum()) / 996
    chi_squared = ((ordinary - expected) ** 2 / expected).sum().item()
    assert abs(chi_squared - 995) < SIGMAS * math.sqrt(2 * 995)
