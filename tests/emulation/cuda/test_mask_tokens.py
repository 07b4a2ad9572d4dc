"""The CUDA kernel of `mask_tokens` draws the bits of the reference, whatever order threads take."""

from __future__ import annotations

import functools
from typing import Any

import pytest
import torch

from sslkernels.masking import reference
from sslkernels.masking.op import span_thresholds
from sslkernels.philox import threshold
from tests.emulation.cuda import build, masking
from tests.emulation.cuda.run import SCHEDULES, Library

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

VOCABULARY = 500


@functools.cache
def library() -> Library:
    return Library(masking.SOURCE)


def arguments(
    strategy: str,
    batch: int = 5,
    length: int = 45,
    *,
    dtype: torch.dtype = torch.int64,
    probability: float = 0.3,
    attention: bool = True,
    words: bool = True,
    specials: tuple[int, ...] = (0, 1, 2, 40, 499),
    seed: int = 2**63 + 5,
) -> tuple[Any, ...]:
    """Arguments of the operator: words of one to four tokens, and some padding."""
    torch.manual_seed(length)
    ids = torch.randint(VOCABULARY, (batch, length), dtype=dtype)
    mask = torch.arange(length) < torch.randint(length // 2, length + 1, (batch, 1))
    starts = torch.rand(batch, length) < 0.5
    word_ids = torch.where(torch.rand(batch, length) < 0.1, -1, starts.cumsum(1))
    return (
        ids,
        torch.arange(batch) * 2**33 - 3,
        mask if attention else None,
        word_ids if strategy == "whole_word" or (words and strategy == "span") else None,
        1,
        VOCABULARY,
        list(specials),
        seed - 2**64 if seed >= 2**63 else seed,
        strategy,
        threshold(probability),
        threshold(0.6),
        threshold(0.9),
        span_thresholds(),
        -100,
    )


def assert_equal_to_reference(operator_arguments: tuple[Any, ...], **options: Any) -> None:
    call = masking.Call(*operator_arguments)
    call.run(library(), **options)
    for ours, expected in zip(
        call.results(), reference.mask_tokens(*operator_arguments), strict=True
    ):
        assert ours.dtype == expected.dtype and torch.equal(ours, expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("strategy", masking.STRATEGIES)
def test_any_order_of_threads(strategy, schedule):
    assert_equal_to_reference(arguments(strategy), schedule=schedule)


@pytest.mark.parametrize("strategy", masking.STRATEGIES)
@pytest.mark.parametrize(("batch", "length"), [(1, 1), (5, 32), (1, 129)])
def test_ragged_sizes(strategy, batch, length):
    assert_equal_to_reference(arguments(strategy, batch, length))


@pytest.mark.parametrize("strategy", masking.STRATEGIES)
@pytest.mark.parametrize(
    "options",
    [
        {"dtype": torch.int32},
        {"attention": False, "words": False},
        {"specials": ()},
        {"specials": tuple(range(0, 500, 2))},
        {"probability": 0.0},
        {"probability": 1.0, "seed": 0},
    ],
    ids=str,
)
def test_options(strategy, options):
    assert_equal_to_reference(arguments(strategy, 3, 70, **options))


def test_nothing_at_all():
    call = masking.Call(*arguments("span", 0, 5))
    assert call.run(library()) == []


def test_too_many_special_ids_are_an_error():
    call = masking.Call(*arguments("token", specials=tuple(range(500))[:499]))
    call.struct.special_count = 513
    with pytest.raises(RuntimeError, match="CUDA error 1"):
        call.run(library())


def test_neighbours_move_whole_sectors():
    """Where every thread passes an instruction, 32 bytes at a time move, and none twice."""
    counts = masking.Call(*arguments("token", 4, 256, specials=())).run(library())
    everybody = [x for x in counts if x.bytes >= 4 * 256 and x.requests == 4 * 256 // 32]
    assert {x.writes for x in everybody} == {False, True}
    assert [x.moved for x in everybody] == [x.fewest for x in everybody]
