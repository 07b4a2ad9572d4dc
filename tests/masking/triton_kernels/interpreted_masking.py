"""Masking in Triton, interpreted: the integers of C++ and of the definition; and broken on purpose.

Run by test_interpreted, as the interpreter needs a process of its own.
"""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl
from hypothesis import given, settings

import sslkernels
from sslkernels import backends, philox_triton
from sslkernels.masking import reference
from sslkernels.masking.triton import operators, spans
from tests.masking.by_hand import by_hand, calls
from tests.masking.test_definition import STRATEGIES, large_call

FEW_RUNS = {"mask_token_id": 4, "vocab_size": 50, "special_ids": (0, 1, 4, 49)}


@pytest.fixture
def small_tiles(monkeypatch):
    """Short rows then have several tiles, and a ragged one at the end."""
    monkeypatch.setattr(operators, "_TOKENS", 16)
    monkeypatch.setattr(operators, "_LONGEST_BLOCK", 32)


def by_backend(name: str, call: dict) -> tuple[torch.Tensor, torch.Tensor]:
    with sslkernels.backend(name):
        return sslkernels.mask_tokens(**call)


def assert_as_elsewhere(call: dict) -> None:
    """As the C++ kernels, or, without a compiler, as the definition."""
    other = "reference" if backends.why_not("mask_tokens", "cpu", torch.empty(0)) else "cpu"
    for ours, wanted in zip(by_backend("triton", call), by_backend(other, call), strict=True):
        assert ours.dtype is wanted.dtype and torch.equal(ours, wanted)


def call_of(strategy: str, batch: int, length: int, dtype=torch.int64, **more) -> dict:
    generator = torch.Generator().manual_seed(length)
    ids = torch.randint(50, (batch, length), generator=generator).to(dtype)
    call = {"input_ids": ids, "seed": 11, "probability": 0.4, **FEW_RUNS, **more}
    call["strategy"] = strategy.split(" ", maxsplit=1)[0]
    if "word" in strategy:
        starts = torch.rand(ids.shape, generator=generator) < 0.4
        call["word_ids"] = starts.cumsum(1) - 1
    return call


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestSameIntegers:
    def test_usual_batch(self, strategy):
        assert_as_elsewhere(large_call(strategy))

    @pytest.mark.parametrize("dtype", [torch.int64, torch.int32], ids=str)
    @pytest.mark.parametrize("shape", [(1, 1), (3, 16), (2, 65), (5, 33)], ids=str)
    def test_ragged_tiles(self, small_tiles, strategy, shape, dtype):
        assert_as_elsewhere(call_of(strategy, *shape, dtype))

    @pytest.mark.parametrize("probability", [0.0, 1.0])
    def test_none_and_all(self, small_tiles, strategy, probability):
        assert_as_elsewhere(call_of(strategy, 3, 40, probability=probability))

    def test_nothing_maskable_in_a_row(self, small_tiles, strategy):
        attention = torch.ones(3, 40, dtype=torch.int64)
        attention[1], attention[2, 17:] = 0, 0
        assert_as_elsewhere(call_of(strategy, 3, 40, attention_mask=attention))

    @pytest.mark.parametrize("shape", [(0, 5), (3, 0)])
    def test_empty(self, strategy, shape):
        masked, labels = by_backend("triton", call_of(strategy, *shape))
        assert masked.shape == labels.shape == shape

    def test_seeds_of_64_bits_and_ignored_labels(self, small_tiles, strategy):
        for seed in (1, 2**31, 2**63 - 1, 2**64 - 1):
            assert_as_elsewhere(call_of(strategy, 2, 20, seed=seed, ignore_index=-(2**63)))


@settings(max_examples=60)
@given(call=calls())
def test_by_hand(call):
    for ours, wanted in zip(by_backend("triton", call), by_hand(call), strict=True):
        assert torch.equal(ours, wanted)


def test_many_runs_of_special_ids_take_the_path_in_plain_pytorch(monkeypatch):
    called = []
    plain = reference.mask_tokens
    monkeypatch.setattr(reference, "mask_tokens", lambda *x: called.append(1) or plain(*x))
    for count in (16, 17):
        special_ids = tuple(range(4, 4 + 2 * count, 2))
        call = call_of("token", 2, 30) | {"special_ids": special_ids}
        wanted = by_hand(call)
        called.clear()
        for ours, exact in zip(by_backend("triton", call), wanted, strict=True):
            assert torch.equal(ours, exact)
        assert called == [1] * (count == 17)


def test_runs():
    assert operators._runs([0, 1, 2, 5, 9, 10]) == (0, 3, 5, 6, 9, 11)


def test_reasons():
    assert backends.why_not("mask_tokens", "triton", torch.zeros(1, dtype=torch.int32)) == ""
    reason = backends.why_not("mask_tokens", "triton", torch.zeros(1))
    assert reason == "they take int64 and int32, not float32"


@triton.jit
def below_or_equal(word, threshold):
    return word.to(tl.int64) <= threshold + 2**30


@triton.jit
def rounded_up(word, n):
    return tl.umulhi(word, word * 0 + n.to(tl.uint32)).to(tl.int32) + 1


@triton.jit
def one_token_less(units, owners, start, count, budget, length, BLOCK: tl.constexpr):
    return spans_last(units, owners, start, count, budget - 1, length, BLOCK)


spans_last = spans._last_selected


class TestBrokenKernels:
    """Each defect must be caught, by an error of the checkers or by the integers."""

    @pytest.mark.parametrize(
        ("module", "name", "broken"),
        [
            (philox_triton, "less", below_or_equal),
            (philox_triton, "below", rounded_up),
            (spans, "_last_selected", one_token_less),
        ],
        ids=["threshold", "off by one", "budget"],
    )
    def test_a_broken_part(self, small_tiles, monkeypatch, module, name, broken):
        call = call_of("span of words", 3, 70)
        assert_as_elsewhere(call)
        monkeypatch.setattr(module, name, broken)
        with pytest.raises(Exception, match=r"assert|OutOfBounds"):
            assert_as_elsewhere(call)

    def test_a_row_that_is_too_long(self, small_tiles, monkeypatch):
        """The mask of the last tile is missing."""
        monkeypatch.setattr(tl, "load", _unmasked(tl.load))
        with pytest.raises(Exception, match="OutOfBounds"):
            by_backend("triton", call_of("token", 3, 33))

    def test_a_store_in_place_of_an_atomic(self, small_tiles, monkeypatch):
        monkeypatch.setattr(tl, "atomic_min", _stored)
        with pytest.raises(Exception, match="Race"):
            by_backend("triton", call_of("span", 3, 70))


def _unmasked(load):
    def broken(pointer, mask=None, other=None, **options):
        return load(pointer, **options)

    return tl.core.builtin(broken)


def _stored(pointer, value, mask=None, sem=None, **options):
    return tl.store(pointer, value, mask=mask, **options)


_stored = tl.core.builtin(_stored)
