"""pair_terms and the sigmoid loss: drawn shapes, logits wide apart, tiles, bits, threads."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sslkernels
from sslkernels.checks import FLOAT_DTYPES, accumulate_dtype
from sslkernels.similarity import chunked, reference
from sslkernels.similarity.pairs import pair_terms
from sslkernels.similarity.sigmoid import sigmoid_loss
from tests.contract import assert_same_bits
from tests.losses.test_clip_contract import TestSigLIP as SigLIPContract
from tests.similarity.test_pairs_contract import TestPairTerms as Contract

CONTRACT = Contract()
SHAPES = {
    "dtype": st.sampled_from(FLOAT_DTYPES),
    "rows": st.integers(1, 70),
    "features": st.sampled_from([1, 3, 17, 32, 128, 513]),
    "seed": st.integers(0, 2**31),
}


def unit_rows(tensors):
    for name in ("q", "k"):
        tensors[name] = torch.nn.functional.normalize(tensors[name].float(), dim=1).to(
            tensors[name].dtype
        )
    return tensors


class TestDrawn:
    op = "pair_terms"

    @settings(max_examples=120)
    @given(
        **SHAPES,
        more=st.integers(0, 70),
        first=st.integers(0, 70),
        # Not so near zero that gradients are subnormal, where nothing is relative any more.
        scale=st.just(0.0) | st.floats(1e-3, 100.0) | st.floats(-3.0, -1e-3),
        normalized=st.booleans(),
    )
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, seed, more, first, scale, normalized
    ):
        variant = {"rows": rows, "columns": rows + more, "first": min(first, more)}
        tensors = CONTRACT.make(dtype, variant, seed, features)
        tensors["scale"].fill_(scale if normalized else max(-3.0, min(scale, 3.0)))
        CONTRACT.check(unit_rows(tensors) if normalized else tensors, variant)

    @pytest.mark.parametrize("rows, more", [(1, 0), (31, 2), (64, 0), (130, 127), (1300, 5)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_sizes_around_blocks(self, implementation, rows, more, dtype):
        variant = {"rows": rows, "columns": rows + more, "first": more // 2}
        CONTRACT.check(CONTRACT.make(dtype, variant, 2, 96), variant)

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_float32_matmul_precision(self, implementation, precision):
        before = torch.get_float32_matmul_precision()
        variant = {"rows": 96, "columns": 100}
        try:
            torch.set_float32_matmul_precision(precision)
            CONTRACT.check(CONTRACT.make(torch.float32, variant, 3, 128), variant)
        finally:
            torch.set_float32_matmul_precision(before)


class TestWideApart:
    op = "pair_terms"
    variant = Contract.variants["square"]

    @pytest.mark.parametrize("q_size, k_size", [(1e-25, 1e25), (1e30, 1e-30)])
    def test_operands_far_from_one(self, implementation, q_size, k_size):
        """Yet the logits are ordinary."""
        tensors = CONTRACT.make(torch.float32, self.variant, 5)
        tensors["q"], tensors["k"] = tensors["q"] * q_size, tensors["k"] * k_size
        CONTRACT.check(tensors, self.variant)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
    @pytest.mark.parametrize("scale", [-3e4, 150.0, 400.0, 1e3, 1e5])
    def test_any_scale(self, implementation, scale, dtype):
        variant = {"rows": 40, "columns": 70, "first": 30}
        tensors = unit_rows(CONTRACT.make(dtype, variant, 6))
        tensors["scale"].fill_(scale)
        CONTRACT.check(tensors, variant)

    @pytest.mark.parametrize("side", ["q", "k"])
    @pytest.mark.parametrize("shift", [-300.0, -90.0, 90.0, 300.0])
    def test_all_logits_far_from_zero(self, implementation, side, shift):
        """Also with few rows and columns, which leave padding whose logits are zero."""
        tensors = CONTRACT.make(torch.float32, self.variant, 7)
        other = "k" if side == "q" else "q"
        tensors[other][:, 0], tensors[side][:, 0] = 1.0, shift
        tensors["scale"].fill_(1.0)
        CONTRACT.check(tensors, self.variant)

    def test_one_row_far_from_the_others(self, implementation):
        """Its exponentials are nothing beside the largest that there could be."""
        tensors = CONTRACT.make(torch.float32, self.variant, 8)
        tensors["q"][3] *= 500.0
        CONTRACT.check(tensors, self.variant)


class TestTiles:
    @pytest.mark.parametrize("budget", [0.0, 1e-4, 4e-4, 2e-3])
    @pytest.mark.parametrize("variant", list(Contract.variants.values()), ids=Contract.variants)
    def test_any_budget_gives_the_same(self, budget, variant, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        monkeypatch.setattr(chunked, "_FULL_ROWS", 4)
        with sslkernels.backend("chunked"):
            CONTRACT.check(CONTRACT.make(torch.float32, variant), variant)


class TestThreads:
    op = "pair_terms"

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    def test_same_bits_for_any_number(self, dtype):
        if sslkernels.backends.why_not(self.op, "cpu", torch.empty(0)):
            pytest.skip("no C++ kernels here")
        if torch.backends.cpu.get_cpu_capability() != "AVX512":
            pytest.skip("the BLAS's products depend on the number of threads")
        variant = {"rows": 700, "columns": 1100, "first": 11}
        pairs = CONTRACT.make(dtype, variant, 1, 40)
        sigmoid = SigLIPContract().make(dtype, SigLIPContract.variants["plain"], 1, 700, 40)
        results, before = [], torch.get_num_threads()
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with sslkernels.backend("cpu"):
                    of_pairs = CONTRACT.run(pairs, variant)
                    results.append((of_pairs, SigLIPContract().run(sigmoid, {})))
        finally:
            torch.set_num_threads(before)
        for both in results[1:]:
            for left, right in zip(results[0], both, strict=True):
                assert_same_bits(left, right)


class TestSigmoid:
    op = "sigmoid_loss"
    contract = SigLIPContract()

    @settings(max_examples=100)
    @given(
        **SHAPES,
        scale=st.floats(1e-3, 100.0),
        bias=st.floats(-100.0, 30.0),
        normalize=st.booleans(),
    )
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, seed, scale, bias, normalize
    ):
        variant = SigLIPContract.variants["plain"] | {"normalize": normalize}
        tensors = self.contract.make(dtype, variant, seed, rows, features, scale, bias)
        self.contract.check(tensors, variant)

    @pytest.mark.parametrize("rows", [1, 31, 64, 130, 1300])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_sizes_around_blocks(self, implementation, rows, dtype):
        variant = SigLIPContract.variants["plain"]
        self.contract.check(self.contract.make(dtype, variant, 2, rows, 96, 10.0, -8.0), variant)

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_float32_matmul_precision(self, implementation, precision):
        before = torch.get_float32_matmul_precision()
        variant = SigLIPContract.variants["plain"]
        try:
            torch.set_float32_matmul_precision(precision)
            self.contract.check(
                self.contract.make(torch.float32, variant, 3, 96, 128, 10.0), variant
            )
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
    @pytest.mark.parametrize("logit", [-80.0, -17.0, -3.0, -1e-3, 0.0, 0.5, 9.0, 40.0])
    def test_each_loss_is_relatively_right(self, implementation, logit, dtype):
        """However small: pairs and others apart, by what one bias makes of all logits."""
        q = torch.zeros(3, 5, dtype=dtype)
        bias = torch.tensor(logit, dtype=dtype, requires_grad=True)
        loss = sigmoid_loss(q, q, 1.0, bias)
        (gradient,) = torch.autograd.grad(loss, bias)
        own, other = math.log1p(math.exp(-logit)), math.log1p(math.exp(logit))
        slope = 6 / (1 + math.exp(-logit)) - 3 / (1 + math.exp(logit))
        limit = 8 * torch.finfo(dtype).eps
        assert loss.item() == pytest.approx(3 * own + 6 * other, rel=limit)
        assert gradient.item() == pytest.approx(slope, rel=limit, abs=limit * 6 * math.exp(-9))
        with torch.no_grad():
            assert sigmoid_loss(q, q, 1.0, bias).item() == pytest.approx(loss.item(), rel=limit)

    @pytest.mark.parametrize("first", [0, 20, 33, 50, 70, 200])
    @pytest.mark.parametrize(
        ("dtype", "limit"), [(torch.float64, 1e-12), (torch.float32, 2e-5)], ids=str
    )
    def test_pairs_anywhere_among_the_keys(self, implementation, first, dtype, limit):
        """Of a part of a joint batch; rows without a pair have negatives only."""
        torch.manual_seed(first)
        exact = [
            torch.randn(37, 20, dtype=torch.float64),
            torch.randn(70, 20, dtype=torch.float64),
            torch.tensor(1.5, dtype=torch.float64),
            torch.tensor(-2.0, dtype=torch.float64),
        ]
        rounded = [x.to(dtype).requires_grad_() for x in exact]
        exact = [x.detach().double().requires_grad_() for x in rounded]
        loss = sigmoid_loss(*rounded, first)
        wanted = reference.sigmoid_loss(*exact, first)
        assert loss.item() == pytest.approx(wanted.item(), rel=limit)
        found = torch.autograd.grad(loss, rounded)
        for got, want in zip(found, torch.autograd.grad(wanted, exact), strict=True):
            assert torch.allclose(got.double(), want, rtol=0, atol=limit * want.abs().max())
        with torch.no_grad():
            assert sigmoid_loss(*rounded, first).item() == pytest.approx(wanted.item(), rel=limit)

    def test_float16_under_a_loss_scaler(self, implementation):
        """Elements that float16 cannot hold before the scaler's factor has multiplied them."""
        q, k = (0.01 * torch.randn(2, 300, 40)).half().unbind()
        q.requires_grad_()
        loss = sigmoid_loss(q, k, 1.0, -12.0, reduction="mean")
        (scaled,) = torch.autograd.grad(loss * 2.0**20, q)
        exact = q.detach().double().requires_grad_()
        wanted = reference.sigmoid_loss(exact, k.double(), 1.0, -12.0) / 300
        (expected,) = torch.autograd.grad(wanted * 2.0**20, exact)
        assert torch.allclose(
            scaled.double(), expected, rtol=2e-3, atol=2e-3 * expected.abs().max()
        )
        assert accumulate_dtype(q.dtype) is loss.dtype


@pytest.mark.parametrize("cut", [(0, 9), (3, 5)])
def test_rows_of_a_part_of_the_batch(fused, cut):
    """What a process with some of the rows computes, against the whole."""
    tensors = CONTRACT.make(torch.float64, Contract.variants["square"])
    whole = pair_terms(**tensors)
    start, end = cut
    part = pair_terms(tensors["q"][start:end], tensors["k"], tensors["scale"], start)
    assert torch.allclose(part.row_lse, whole.row_lse[start:end], rtol=1e-12)
    assert torch.allclose(part.pair_logit, whole.pair_logit[start:end], rtol=1e-12)
    if end - start == 9:
        assert torch.allclose(part.column_lse, whole.column_lse, rtol=1e-12)
