"""What `mask_tokens` promises: draws that depend on the sequence alone, labels, edges, compile."""

from __future__ import annotations

import functools

import pytest
import torch
from torch.utils.data import DataLoader, Dataset

import sslkernels
from sslkernels import mask_tokens
from tests.masking.test_definition import STRATEGIES, large_call

VOCABULARY = {"mask_token_id": 4, "vocab_size": 1000, "special_ids": (0, 1, 2, 3, 4)}
IDS = torch.randint(5, 1000, (6, 50), generator=torch.Generator().manual_seed(0))
WORDS = (torch.arange(50) // 3).expand(6, 50)


def options(strategy: str, **more) -> dict:
    """Keyword arguments for IDS."""
    words = {"word_ids": WORDS} if "word" in strategy else {}
    return VOCABULARY | {"seed": 7, "strategy": strategy.split(" ")[0]} | words | more


def rows_of(call: dict, rows: torch.Tensor) -> dict:
    """The call for some of its sequences."""
    per_row = ("input_ids", "sequence_ids", "attention_mask", "word_ids")
    return {name: x[rows] if name in per_row else x for name, x in call.items()}


def assert_same(left, right) -> None:
    for a, b in zip(left, right, strict=True):
        assert a.dtype is b.dtype and torch.equal(a, b)


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestDraws:
    op = "mask_tokens"

    def test_any_split_and_order_of_the_batch(self, implementation, strategy):
        call = large_call(strategy)
        masked, labels = mask_tokens(**call)
        for rows in (torch.tensor([4]), torch.tensor([8, 0, 3]), torch.randperm(9)):
            assert_same(mask_tokens(**rows_of(call, rows)), (masked[rows], labels[rows]))

    def test_padding_may_be_added(self, implementation, strategy):
        call = large_call(strategy)
        expected = mask_tokens(**call)
        for name in ("input_ids", "attention_mask", "word_ids"):
            if name in call:
                call[name] = torch.nn.functional.pad(call[name], (0, 130))
        masked, labels = mask_tokens(**call)
        assert_same((masked[:, :515], labels[:, :515]), expected)
        assert (labels[:, 515:] == -100).all() and (masked[:, 515:] == 0).all()

    def test_sequences_are_numbered_by_default(self, implementation, strategy):
        call = options(strategy)
        assert_same(
            mask_tokens(IDS, **call), mask_tokens(IDS, sequence_ids=torch.arange(6), **call)
        )

    def test_seed_and_sequence_matter(self, implementation, strategy):
        same = IDS[:1].expand(6, 50)
        _, labels = mask_tokens(same, **options(strategy, probability=0.5))
        _, others = mask_tokens(same, **options(strategy, probability=0.5, seed=8))
        patterns = {tuple((row != -100).tolist()) for row in torch.cat([labels, others])}
        assert len(patterns) == 12

    def test_every_bit_of_seed_and_sequence_matters(self, implementation, strategy):
        ids, words = torch.full((1, 300), 9), torch.arange(300)[None] // 3
        call = options(strategy, probability=0.5)
        call |= {"word_ids": words} if "word" in strategy else {}
        patterns = set()
        for bit in range(64):
            power = torch.tensor([2**bit if bit < 63 else -(2**63)])
            for sequence, seed in ((power, 0), (torch.tensor([0]), 2**bit)):
                _, labels = mask_tokens(ids, sequence_ids=sequence, **call | {"seed": seed})
                patterns.add(tuple((labels[0] != -100).tolist()))
        assert len(patterns) == 128


@pytest.mark.parametrize("strategy", STRATEGIES)
class TestRule:
    op = "mask_tokens"

    def test_labels_and_what_stays(self, implementation, strategy):
        masked, labels = mask_tokens(IDS, **options(strategy))
        selected = labels != -100
        assert 0 < selected.sum() < IDS.numel() / 2
        assert torch.equal(labels[selected], IDS[selected])
        assert torch.equal(masked[~selected], IDS[~selected])

    def test_everything_is_masked(self, implementation, strategy):
        masked, labels = mask_tokens(IDS, **options(strategy, probability=1, replace=1, random=0))
        assert torch.equal(labels, IDS) and (masked == 4).all()

    def test_nothing_is_selected(self, implementation, strategy):
        masked, labels = mask_tokens(IDS, **options(strategy, probability=0.0))
        assert torch.equal(masked, IDS) and (labels == -100).all()

    def test_selected_but_unchanged(self, implementation, strategy):
        masked, labels = mask_tokens(IDS, **options(strategy, probability=1, replace=0, random=0))
        assert torch.equal(masked, IDS) and torch.equal(labels, IDS)

    def test_special_ids_are_never_selected_nor_drawn(self, implementation, strategy):
        ids = torch.randint(8, (6, 50), generator=torch.Generator().manual_seed(1))
        special_ids = (0, 3, 7)
        call = options(strategy, mask_token_id=5, vocab_size=8, special_ids=special_ids)
        masked, labels = mask_tokens(ids, **call | {"probability": 1, "replace": 0, "random": 1})
        special = torch.isin(ids, torch.tensor([*special_ids, 5]))
        assert torch.equal(masked[special], ids[special]) and (labels[special] == -100).all()
        assert torch.equal(labels[~special], ids[~special])
        assert masked[~special].unique().tolist() == [1, 2, 4, 6]

    def test_padding_is_never_selected(self, implementation, strategy):
        attended = torch.rand(6, 50, generator=torch.Generator().manual_seed(2)) < 0.5
        for mask in (attended, attended.int(), 3 * attended.long(), attended.to(torch.uint8)):
            call = options(strategy, probability=1.0, attention_mask=mask)
            masked, labels = mask_tokens(IDS, **call)
            assert torch.equal(labels != -100, attended)
            assert torch.equal(masked[~attended], IDS[~attended])

    def test_inputs_stay_as_they_were(self, implementation, strategy):
        call = large_call(strategy)
        copies = {name: x.clone() for name, x in call.items() if isinstance(x, torch.Tensor)}
        mask_tokens(**call)
        assert all(torch.equal(call[name], copy) for name, copy in copies.items())


class TestStrategies:
    op = "mask_tokens"

    def test_words_are_selected_whole(self, implementation):
        words = torch.randint(12, (6, 50), generator=torch.Generator().manual_seed(3))
        _, labels = mask_tokens(IDS, **options("whole_word", word_ids=words, probability=0.4))
        for row, selected in zip(words, labels != -100, strict=True):
            for word in row.unique():
                assert selected[row == word].unique().numel() == 1

    @pytest.mark.parametrize("strategy", ["whole_word", "span of words"])
    def test_tokens_without_a_word_are_never_selected(self, implementation, strategy):
        words = torch.where(torch.arange(50) % 7 == 0, -1, WORDS)
        _, labels = mask_tokens(IDS, **options(strategy, probability=1.0, word_ids=words))
        assert torch.equal(labels == -100, words == -1)

    @pytest.mark.parametrize("strategy", ["span", "span of words"])
    def test_spans_fill_the_budget(self, implementation, strategy):
        for probability in (0.01, 0.15, 0.5, 0.99):
            _, labels = mask_tokens(IDS, **options(strategy, probability=probability))
            counts = (labels != -100).sum(1)
            low = int(50 * probability)
            assert ((counts == low) | (counts == low + 1)).all(), counts

    def test_spans_are_of_complete_words(self, implementation):
        """But one a sequence, which the budget cuts."""
        _, labels = mask_tokens(IDS, **options("span of words", probability=0.4))
        cut = 0
        for row, selected in zip(WORDS, labels != -100, strict=True):
            parts = [int(selected[row == word].unique().numel() == 2) for word in row.unique()]
            assert sum(parts) <= 1
            cut += sum(parts)
        assert cut

    def test_a_span_becomes_one_thing(self, implementation):
        """All its tokens are replaced, or all are drawn, or all stay."""
        ids = torch.full((300, 1000), 9)
        call = options("span", probability=0.004, replace=0.4, random=0.3, vocab_size=10**6)
        masked, labels = mask_tokens(ids, **call)
        kind = torch.where(masked == 4, 0, torch.where(masked == 9, 1, 2))
        seen, mixed = set(), 0
        for row, selected in zip(kind, labels != -100, strict=True):
            places = selected.nonzero()[:, 0]
            if places[-1] - places[0] == 3:  # the budget of four in one run
                kinds = row[places].unique().tolist()
                seen.update(kinds)
                mixed += len(kinds) > 1
        assert seen == {0, 1, 2}
        assert mixed <= 2  # two spans may happen to lie side by side


class TestShapes:
    op = "mask_tokens"

    @pytest.mark.parametrize("strategy", STRATEGIES)
    @pytest.mark.parametrize("shape", [(0, 5), (3, 0), (0, 0), (0,)])
    def test_empty(self, implementation, strategy, shape):
        ids = torch.zeros(shape, dtype=torch.int32)
        words = {"word_ids": torch.zeros(shape, dtype=torch.int64)} if "word" in strategy else {}
        masked, labels = mask_tokens(ids, **options(strategy) | words)
        assert masked.shape == labels.shape == shape
        assert masked.dtype is torch.int32 and labels.dtype is torch.int64

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_one_sequence_without_a_batch(self, implementation, strategy):
        call = rows_of(options(strategy), slice(5, 6)) | {"attention_mask": IDS[5:] != 99}
        masked, labels = mask_tokens(IDS[5:], sequence_ids=torch.tensor([5]), **call)
        call = rows_of(call, 0)
        for number in (torch.tensor(5), torch.tensor([5]), torch.tensor(5).int()):
            assert_same(mask_tokens(IDS[5], sequence_ids=number, **call), (masked[0], labels[0]))

    def test_one_token_and_one_id(self, implementation):
        masked, labels = mask_tokens(
            torch.zeros(1, 1).long(), mask_token_id=0, vocab_size=1, random=0.0, seed=0
        )
        assert masked.item() == 0 and labels.item() == -100

    def test_special_ids_in_any_order_and_kind(self, implementation):
        expected = mask_tokens(IDS, **options("token"))
        for special_ids in ([4, 3, 2, 1, 0], {0, 1, 2, 3}, (0, 0, 1, 2, 3)):
            assert_same(mask_tokens(IDS, **options("token", special_ids=special_ids)), expected)


class TestCompile:
    op = "mask_tokens"

    @pytest.mark.parametrize("strategy", STRATEGIES)
    def test_fullgraph_and_changing_seeds(self, implementation, strategy):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()
        call = options(strategy)
        del call["seed"]
        compiled = torch.compile(
            functools.partial(mask_tokens, **call), fullgraph=True, backend="aot_eager"
        )
        for seed in (1, 2, 2**63 - 1):
            assert_same(compiled(IDS, seed=seed), mask_tokens(IDS, seed=seed, **call))
        assert torch._dynamo.utils.counters["stats"]["unique_graphs"] <= 2
        assert_same(compiled(IDS, seed=2**64 - 1), mask_tokens(IDS, seed=2**64 - 1, **call))

    def test_registration(self, fused):
        operator = getattr(
            torch.ops, "sslkernels" if fused == "cpu" else "sslkernels_chunked"
        ).mask_tokens.default
        mask_tokens(IDS, **options("token"))  # loads the C++ kernels and completes them
        rows = (IDS, torch.arange(6), IDS != 9, WORDS.contiguous())
        numbers = (4, 1000, [0, 4], 7, "whole_word", 2**31, 2**31, 2**32, [], -100)
        torch.library.opcheck(operator, (*rows, *numbers))

    def test_vmap(self, fused):
        stacked = torch.stack([IDS, IDS.flip(1)])
        masked, labels = torch.vmap(lambda ids: mask_tokens(ids, **options("token")))(stacked)
        for index in range(2):
            expected = mask_tokens(stacked[index], **options("token"))
            assert_same((masked[index], labels[index]), expected)

    def test_ids_outside_are_an_error_inside_a_compiled_function(self):
        if sslkernels.backends.why_not("mask_tokens", "cpu", IDS):
            pytest.skip("no C++ kernels")
        compiled = torch.compile(
            functools.partial(mask_tokens, **options("token")), fullgraph=True, backend="aot_eager"
        )
        with pytest.raises(RuntimeError, match=r"input_ids must lie in \[0, 1000\)"):
            compiled(IDS.masked_fill(IDS[5, 49] == IDS, 1000))


class _Masked(Dataset):
    """Examples masked in the workers, one by one."""

    def __len__(self) -> int:
        return len(IDS)

    def __getitem__(self, index: int):
        return mask_tokens(IDS[index], sequence_ids=torch.tensor(index), **options("token"))


@pytest.mark.parametrize("workers", [0, 2])
def test_any_number_of_workers(workers):
    expected = mask_tokens(IDS, **options("token"))
    loader = DataLoader(_Masked(), batch_size=4, num_workers=workers)
    batches = list(loader)
    assert_same([torch.cat(parts) for parts in zip(*batches, strict=True)], expected)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("strategy", STRATEGIES)
def test_cuda_draws_what_the_cpu_draws(strategy):
    call = large_call(strategy)
    expected = mask_tokens(**call)
    call = {name: x.cuda() if isinstance(x, torch.Tensor) else x for name, x in call.items()}
    assert_same([x.cpu() for x in mask_tokens(**call)], expected)
