"""logit_terms: drawn shapes, the largest logit, rows that do not count, tiles, bad input."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import sslkernels
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.similarity import chunked, chunked_terms, logit_terms, reference
from tests.similarity.test_terms_contract import TARGET
from tests.similarity.test_terms_contract import TestLogitTerms as Contract

CONTRACT = Contract()


def draw_target(rows, columns, counted, seed=0):
    """Targets of which about the share `counted` is not -1."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, columns, (rows,), generator=generator)
    return target.masked_fill(torch.rand(rows, generator=generator) >= counted, -1)


class TestDrawn:
    op = "logit_terms"

    @settings(max_examples=120)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(1, 70),
        columns=st.integers(1, 70),
        features=st.sampled_from([1, 3, 17, 32, 130, 513]),
        # Not so near zero that gradients are subnormal, where nothing is relative any more.
        scale=st.just(0.0) | st.floats(1e-3, 30.0) | st.floats(-3.0, -1e-3),
        counted=st.sampled_from([0.0, 0.15, 0.7, 1.0]),
        with_bias=st.booleans(),
        with_weight=st.booleans(),
        softcap=st.none() | st.floats(0.5, 50.0),
        seed=st.integers(0, 2**31),
    )
    def test_value_and_gradients(
        self,
        implementation,
        dtype,
        rows,
        columns,
        features,
        scale,
        counted,
        with_bias,
        with_weight,
        softcap,
        seed,
    ):
        variant = {
            "names": ["q", "k", "scale"] + ["bias"] * with_bias,
            "weight": with_weight,
            "softcap": softcap,
            "target": draw_target(rows, columns, counted, seed),
        }
        tensors = CONTRACT.make(dtype, variant, seed, rows, columns, features, scale)
        CONTRACT.check(tensors, variant)

    @pytest.mark.parametrize("rows, columns", [(1, 1), (31, 33), (64, 64), (130, 257), (300, 1030)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_sizes_around_blocks(self, implementation, rows, columns, dtype):
        variant = CONTRACT.variants["all"] | {"target": draw_target(rows, columns, 0.6)}
        CONTRACT.check(CONTRACT.make(dtype, variant, 2, rows, columns, 96), variant)

    @pytest.mark.parametrize("precision", ["highest", "high", "medium"])
    def test_float32_matmul_precision(self, implementation, precision):
        before = torch.get_float32_matmul_precision()
        variant = CONTRACT.variants["all"] | {"target": draw_target(96, 100, 0.8)}
        try:
            torch.set_float32_matmul_precision(precision)
            CONTRACT.check(CONTRACT.make(torch.float32, variant, 3, 96, 100, 128), variant)
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.parametrize("q_size, k_size", [(1e-25, 1e25), (1e30, 1e-30)])
    def test_operands_far_from_one(self, implementation, q_size, k_size):
        """Yet the logits are ordinary."""
        variant = {"names": ["q", "k", "scale", "bias"]}
        variant["target"] = draw_target(40, 50, 0.8)
        tensors = CONTRACT.make(torch.float32, variant, 5, 40, 50, 70)
        tensors["q"], tensors["k"] = tensors["q"] * q_size, tensors["k"] * k_size
        CONTRACT.check(tensors, variant)

    @pytest.mark.parametrize("size", [1e2, 1e5])
    @pytest.mark.parametrize("where", [("q",), ("k",), ("q", "k")], ids="-".join)
    def test_a_feature_that_dwarfs_the_others(self, implementation, size, where):
        variant = CONTRACT.variants["all"] | {"target": draw_target(40, 50, 0.8)}
        tensors = CONTRACT.make(torch.float32, variant, 6, 40, 50, 130)
        for name in where:
            tensors[name][:, 3] *= size
            tensors[name] /= size
        CONTRACT.check(tensors, variant)


def test_reference_is_the_formula():
    q, k, bias = torch.randn(3, 2).double(), torch.randn(4, 2).double(), torch.randn(4).double()
    weight = torch.randn(4).double()
    terms = reference.logit_terms(q, k, torch.tensor([2, -1, 0]), 1.5, bias, weight, 0.7)
    for i, target in ((0, 2), (2, 0)):
        s = [0.7 * math.tanh((1.5 * float(q[i] @ k[j]) + float(bias[j])) / 0.7) for j in range(4)]
        expected = (
            math.log(sum(math.exp(x) for x in s)),
            s[target],
            sum(float(w) * x for w, x in zip(weight, s, strict=True)),
            max(s),
        )
        for term, value in zip(terms, expected, strict=True):
            assert term[i].item() == pytest.approx(value, rel=1e-12)
    assert all(term[1] == 0.0 for term in terms)


class TestEdges:
    op = "logit_terms"
    variant = CONTRACT.variants["all"]

    @pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
    def test_largest(self, implementation, dtype):
        """The maximum, without a gradient, and the target's own logit where that is it."""
        tensors = CONTRACT.make(dtype, self.variant, 4)
        exact = {name: x.double() for name, x in tensors.items()}
        expected = reference.logit_terms(**exact, target=TARGET)[3]
        for x in tensors.values():
            x.requires_grad_()
        largest = logit_terms(**tensors, target=TARGET).largest
        assert not largest.requires_grad
        limit = 4 * torch.finfo(dtype).eps
        assert torch.allclose(largest.double(), expected, rtol=limit, atol=limit)
        best = reference.logits(**exact).argmax(1)
        terms = logit_terms(**tensors, target=best, softcap=1.5)
        assert torch.equal(terms.target_logit, terms.largest)

    @pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
    @pytest.mark.parametrize("softcap", [3e4, 1e30])
    def test_cap_far_above_the_logits(self, implementation, dtype, softcap):
        """What the cap does not touch keeps its own precision, not that of the cap."""
        tensors = CONTRACT.make(dtype, self.variant, 5)
        capped, plain = (
            CONTRACT.run(tensors, self.variant | {"softcap": cap}) for cap in (softcap, None)
        )
        # tanh(u) is u (1 - u^2 / 3 ...), and the logits stay below 30.
        limit = 8 * torch.finfo(dtype).eps + (30 / softcap) ** 2
        for name, x in plain.items():
            error = (capped[name].double() - x.double()).abs().max()
            assert error <= limit * max(1.0, x.abs().max().item()), name

    def test_rows_that_do_not_count_are_nothing(self, implementation):
        """Not even NaN in them, or in their upstream gradients, comes through."""
        tensors = CONTRACT.make(torch.float32, self.variant)
        clean = CONTRACT.run(tensors, self.variant)
        out = TARGET < 0
        tensors["q"][out] = float("nan")
        upstream = torch.ones(3, 7).masked_fill(out, float("nan"))
        dirty = CONTRACT.run(tensors, self.variant, upstream)
        assert torch.equal(dirty["dq"][out], torch.zeros(2, 33))
        for name in clean:
            assert torch.equal(clean[name], dirty[name]), name

    @pytest.mark.parametrize("rows", [0, 5])
    def test_no_row_counts(self, implementation, rows):
        variant = self.variant | {"target": torch.full((rows,), -1)}
        results = CONTRACT.run(CONTRACT.make(torch.float32, variant, 0, rows), variant)
        assert results["value"].shape == (3, rows)
        for name, x in results.items():
            assert torch.equal(x, torch.zeros_like(x)), name

    @pytest.mark.parametrize("shift", [-1e4, 1e4, 80.0, -120.0])
    def test_large_logits(self, implementation, shift):
        tensors = CONTRACT.make(torch.float32, CONTRACT.variants["bias"])
        still = logit_terms(**tensors, target=TARGET)
        tensors["bias"] = tensors["bias"] + shift
        moved = logit_terms(**tensors, target=TARGET)
        for term in ("lse", "target_logit", "largest"):
            expected = getattr(still, term) + shift * (TARGET >= 0)
            assert torch.allclose(getattr(moved, term), expected, rtol=1e-6, atol=1e-4)

    def test_excluded_columns(self, fused):
        """A bias of -inf takes a column out, with finite gradients everywhere."""
        tensors = CONTRACT.make(torch.float64, CONTRACT.variants["bias"])
        tensors["bias"][1:3] = float("-inf")
        results = CONTRACT.run(tensors, CONTRACT.variants["bias"])
        assert all(x.isfinite().all() for x in results.values())
        assert torch.equal(results["dbias"][1:3], torch.zeros(2).double())

    def test_unused_terms_have_no_gradient(self, implementation):
        """Through one term alone: the upstream gradients of the others are zeros."""
        tensors = CONTRACT.make(torch.float64, self.variant)
        for index in range(3):
            upstream = torch.zeros(3, 7)
            upstream[index] = 1.0
            expected = CONTRACT.run(tensors, self.variant, upstream)
            leaves = {name: x.clone().requires_grad_() for name, x in tensors.items()}
            term = logit_terms(**leaves, **CONTRACT.settings(leaves, self.variant))[index]
            grads = torch.autograd.grad(term.sum(), list(leaves.values()))
            for name, gradient in zip(leaves, grads, strict=True):
                assert torch.allclose(gradient, expected[f"d{name}"], rtol=1e-12), name

    @pytest.mark.parametrize("dtype", [torch.int32, torch.int16, torch.int8])
    def test_integers_of_any_width(self, implementation, dtype):
        tensors = CONTRACT.make(torch.float32, CONTRACT.variants["plain"])
        narrow = torch.stack(logit_terms(**tensors, target=TARGET.to(dtype)))
        assert torch.equal(narrow, torch.stack(logit_terms(**tensors, target=TARGET)))


class TestTiles:
    @pytest.mark.parametrize("budget", [0.0, 1e-4, 4e-4, 2e-3])
    @pytest.mark.parametrize("variant", list(Contract.variants.values()), ids=Contract.variants)
    def test_any_budget_gives_the_same(self, budget, variant, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        monkeypatch.setattr(chunked, "_FULL_ROWS", 8)
        variant = variant | {"target": draw_target(23, 9, 0.7)}
        with sslkernels.backend("chunked"):
            CONTRACT.check(CONTRACT.make(torch.float32, variant, 0, 23, 9), variant)

    def test_no_tensor_exceeds_the_budget(self, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", 0.125)

        class Largest(TorchDispatchMode):
            elements = 0

            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                for x in out if isinstance(out, (tuple, list)) else [out]:
                    if isinstance(x, torch.Tensor):
                        self.elements = max(self.elements, x.numel())
                return out

        q, k, target = torch.randn(500, 8), torch.randn(1500, 8), draw_target(500, 1500, 0.8)
        args = (q, k, target, torch.tensor(1.0), None, torch.rand(1500), 2.0, 0)
        with Largest() as largest:
            lse, *_ = chunked_terms.logit_terms_forward(*args)
            chunked_terms.logit_terms_backward(*torch.rand(3, 500), lse, *args[:-1], True, 0)
        assert 8 * 1500 <= largest.elements <= 0.125 * 2**20 / 4


class TestBadInput:
    op = "logit_terms"
    good = {"q": torch.zeros(4, 3), "k": torch.zeros(5, 3), "target": torch.zeros(4).long()}

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"q": torch.zeros(3)}, ValueError, r"q must be 2-D .*got \[3\]"),
            ({"q": torch.zeros(4, 3).int()}, TypeError, "q must be one of float64.*got int32"),
            ({"k": torch.zeros(5, 2)}, ValueError, r"k must have shape \[n, 3\].*got \[5, 2\]"),
            ({"k": torch.zeros(0, 3)}, ValueError, r"k must have shape \[n, 3\] with n at least 1"),
            ({"k": torch.zeros(5, 3).double()}, TypeError, "k must have the dtype of q, float32"),
            ({"target": torch.zeros(3).long()}, ValueError, r"target must have shape \[4\]"),
            ({"target": torch.zeros(4)}, TypeError, "target must hold integers, got float32"),
            ({"target": [0, 1, 2, 3]}, TypeError, "target must be a torch.Tensor, got list"),
            (
                {"target": torch.tensor([0, 5, 1, 1])},
                ValueError,
                r"target must be in \[0, 5\) or -1, got 5",
            ),
            (
                {"target": torch.tensor([0, -2, 1, 1])},
                ValueError,
                r"target must be in \[0, 5\) or -1, got -2",
            ),
            ({"scale": "1"}, TypeError, "scale must be a float or a tensor, got str"),
            ({"bias": torch.ones(4)}, ValueError, r"bias must have shape \[5\], got \[4\]"),
            ({"column_weight": torch.ones(4)}, ValueError, r"column_weight must have shape \[5\]"),
            (
                {"column_weight": torch.ones(5, requires_grad=True)},
                ValueError,
                r"column_weight has no gradient.*column_weight.detach\(\)",
            ),
            ({"softcap": 0.0}, ValueError, "softcap must be positive and finite, got 0.0"),
            ({"softcap": math.inf}, ValueError, "softcap must be positive and finite, got inf"),
            ({"softcap": torch.ones(())}, TypeError, "softcap must be a float, got a tensor"),
        ],
    )
    def test_message(self, arguments, error, message):
        with pytest.raises(error, match="^logit_terms: " + message):
            logit_terms(**(self.good | arguments))

    @pytest.mark.parametrize("wrong", [5, -2, 2**40])
    def test_target_out_of_range_where_values_cannot_be_looked_at(self, fused, wrong):
        """Inside torch.compile the kernel itself has to notice."""
        target = torch.tensor([0, wrong, 1, 1])
        call = torch.compile(logit_terms, backend="aot_eager", fullgraph=True)
        with pytest.raises(RuntimeError, match=r"target.*(out of range|not in \[-1, )"):
            call(self.good["q"], self.good["k"], target)
