"""The engine: drawn shapes, exclusion, tiles within the budget, edges and bad input."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import sslkernels
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.similarity import chunked, logsumexp, reference, weighted_logsumexp
from tests.similarity.test_engine_contract import TestLogSumExp as Rows
from tests.similarity.test_engine_contract import TestWeightedLogSumExp as Weighted


class TestDrawn:
    @pytest.mark.parametrize("contract", [Rows(), Weighted()], ids=["rows", "weighted"])
    @settings(max_examples=80)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(1, 70),
        columns=st.integers(1, 70),
        features=st.sampled_from([1, 3, 17, 32, 128, 513]),
        # Not so near zero that gradients are subnormal, where nothing is relative any more.
        scale=st.just(0.0) | st.floats(1e-3, 30.0) | st.floats(-3.0, -1e-3),
        exclude=st.lists(st.integers(-80, 80), max_size=3).map(tuple),
        with_k=st.booleans(),
        with_bias=st.booleans(),
        seed=st.integers(0, 2**31),
    )
    def test_value_and_gradients(
        self,
        implementation,
        contract,
        dtype,
        rows,
        columns,
        features,
        scale,
        exclude,
        with_k,
        with_bias,
        seed,
    ):
        n = columns if with_k else rows
        if len({offset % n for offset in exclude}) == n:
            exclude = ()  # nothing would be left: see the tests of empty rows
        names = ["q", "scale", "row_weight"] if contract.op.startswith("w") else ["q", "scale"]
        names += ["k"] * with_k + ["bias"] * with_bias
        variant = {"names": names, "exclude": exclude}
        contract.check(contract.make(dtype, variant, seed, rows, columns, features, scale), variant)


def test_reference_is_the_formula():
    q, k, bias = torch.randn(3, 2).double(), torch.randn(4, 2).double(), torch.randn(4).double()
    lse = reference.logsumexp(q, k, scale=1.5, bias=bias, exclude=(1, -1))
    for i in range(3):
        allowed = [j for j in range(4) if j not in ((i + 1) % 4, (i - 1) % 4)]
        terms = [math.exp(1.5 * float(q[i] @ k[j]) + float(bias[j])) for j in allowed]
        assert lse[i].item() == pytest.approx(math.log(sum(terms)), rel=1e-12)


class TestTiles:
    @pytest.mark.parametrize("budget", [0.0, 1e-4, 4e-4, 2e-3, 1.0])
    @pytest.mark.parametrize("variant", list(Weighted.variants.values()), ids=Weighted.variants)
    def test_any_budget_gives_the_same(self, budget, variant, monkeypatch):
        """From one element a tile to the whole matrix; wraps of the exclusion across tiles."""
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        monkeypatch.setattr(chunked, "_FULL_ROWS", 8)
        with sslkernels.backend("chunked"):
            contract = Weighted()
            contract.check(contract.make(torch.float32, variant, 0, 23, 9), variant)
            variant = variant | {"names": [n for n in variant["names"] if n != "row_weight"]}
            contract = Rows()
            contract.check(contract.make(torch.float32, variant, 0, 23, 9), variant)

    @pytest.mark.parametrize("m, n", [(1, 1), (1, 10**9), (10**9, 1), (4096, 10**7), (300, 300)])
    def test_tiles_fit_the_budget_and_cover(self, m, n, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", 64.0 if max(m, n) > 10**4 else 0.01)
        rows, columns = chunked.tiles(m, n, torch.float32)
        for slices, size in ((rows, m), (columns, n)):
            assert slices[0].start == 0 and slices[-1].stop == size
            assert all(a.stop == b.start for a, b in itertools.pairwise(slices))
        largest = (rows[0].stop - rows[0].start) * (columns[0].stop - columns[0].start)
        assert largest * 4 <= chunked.BUDGET_MIB * 2**20

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

        q = torch.randn(1000, 8)
        args = (q, None, torch.tensor(1.0), None, [0], 0)
        with Largest() as largest:
            chunked.weighted_logsumexp_forward(q, None, torch.ones(1000), *args[2:])
            lse = chunked.logsumexp_forward(*args)
            chunked.logsumexp_backward(torch.ones(1000), lse, *args[:-1], True, 0)
        assert 8000 <= largest.elements <= 0.125 * 2**20 / 4


class TestEdges:
    def test_row_without_columns(self, implementation):
        """lse is -inf there, its gradients zero, and the other rows unharmed."""
        q = torch.randn(3, 4, requires_grad=True)
        k = torch.randn(1, 4, requires_grad=True)
        assert torch.equal(logsumexp(q, k, exclude=(0,)), torch.full((3,), float("-inf")))
        bias = torch.tensor([0.0, float("-inf"), float("-inf")], requires_grad=True)
        lse = logsumexp(q, bias=bias, exclude=(0,))
        assert lse[0] == float("-inf") and lse[1:].isfinite().all()

    def test_gradient_of_a_row_without_columns(self, fused):
        q = torch.randn(3, 4, requires_grad=True)
        bias = torch.tensor([0.0, float("-inf"), float("-inf")], requires_grad=True)
        lse = logsumexp(q, bias=bias, exclude=(0,))
        grads = torch.autograd.grad(lse, (q, bias), torch.ones(3))
        assert all(g.isfinite().all() for g in grads)

    def test_no_rows(self, implementation):
        q = torch.zeros(0, 4, requires_grad=True)
        k = torch.randn(3, 4, requires_grad=True)
        lse = logsumexp(q, k)
        assert lse.shape == (0,)
        value = weighted_logsumexp(q, k, torch.zeros(0))
        value.backward()
        assert value == 0.0 and torch.equal(k.grad, torch.zeros(3, 4))

    @pytest.mark.parametrize("shift", [-1e4, 1e4, 80.0, -120.0])
    def test_large_logits(self, implementation, shift):
        """lse moves with a bias on every column; the probabilities do not."""
        q, k = torch.randn(2, 6, 5).unbind()
        q.requires_grad_()
        still = logsumexp(q, k)
        moved = logsumexp(q, k, bias=torch.full((6,), shift))
        assert torch.allclose(moved, still + shift, rtol=1e-6, atol=1e-4)
        left = torch.autograd.grad(still.sum(), q)[0]
        right = torch.autograd.grad(moved.sum(), q)[0]
        assert torch.allclose(left, right, rtol=1e-2, atol=1e-3)

    def test_weights_need_not_take_part(self, implementation):
        """A row of weight zero has no gradient."""
        q = torch.randn(4, 3, requires_grad=True)
        weighted_logsumexp(q, torch.randn(5, 3), torch.tensor([1.0, 0.0, 2.0, 0.0])).backward()
        assert q.grad[[1, 3]].abs().max() == 0 and q.grad[[0, 2]].abs().min() > 0

    def test_gradient_of_row_weight_is_lse(self, implementation):
        q = torch.randn(4, 3)
        weight = torch.rand(4, requires_grad=True)
        (2 * weighted_logsumexp(q, None, weight)).backward()
        assert torch.allclose(weight.grad, 2 * logsumexp(q))

    def test_scale_as_float_and_as_tensor(self, implementation):
        q, k = torch.randn(2, 4, 3).unbind()
        expected = logsumexp(q, k, scale=0.3)
        assert torch.equal(logsumexp(q, k, scale=torch.tensor([0.3])), expected)
        assert torch.equal(logsumexp(q, k, scale=torch.tensor(0.3).double()), expected)

    def test_half_bias_and_weight_are_widened(self, implementation):
        q = torch.randn(4, 3)
        bias, weight = torch.randn(4).bfloat16(), torch.randn(4).bfloat16()
        expected = weighted_logsumexp(q, None, weight.float(), bias=bias.float())
        assert torch.equal(weighted_logsumexp(q, None, weight, bias=bias), expected)

    def test_float16_weighted_gradients_survive_until_the_loss_scale(self, implementation):
        q = (0.01 * torch.randn(64, 8)).half().requires_grad_()
        weight = torch.full((64,), 1e-7)
        (2.0**20 * weighted_logsumexp(q, None, weight)).backward()
        exact = q.detach().double().requires_grad_()
        (2.0**20 * reference.weighted_logsumexp(exact, None, weight.double())).backward()
        assert (q.grad.double() - exact.grad).norm() < 0.01 * exact.grad.norm()


class TestBadInput:
    q = torch.zeros(4, 3)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"q": q[0]}, ValueError, r"q must be 2-D .*got \[3\]"),
            ({"q": q.int()}, TypeError, "q must be one of float64.*got int32"),
            ({"q": q[:, :0]}, ValueError, "q must have at least one feature"),
            ({"q": "q"}, TypeError, "q must be a torch.Tensor, got str"),
            ({"q": q, "k": q[:0]}, ValueError, r"k must have shape \[n_k, 3\]"),
            ({"q": q, "k": q[:, :2]}, ValueError, r"k must have shape \[n_k, 3\].*got \[4, 2\]"),
            ({"q": q, "k": q.double()}, TypeError, "k must have the dtype of q, float32"),
            ({"q": q, "k": q.to("meta")}, ValueError, "k must be on the device of q, cpu"),
            ({"q": q, "k": q.to_sparse()}, TypeError, "k must be a dense tensor"),
            ({"q": q, "scale": "1"}, TypeError, "scale must be a float or a tensor, got str"),
            ({"q": q, "scale": torch.ones(2)}, ValueError, "scale must have one element"),
            ({"q": q, "scale": torch.tensor(1)}, TypeError, "scale must be one of float64"),
            ({"q": q, "bias": torch.ones(3)}, ValueError, r"bias must have shape \[4\], got \[3\]"),
            ({"q": q, "bias": torch.ones(4, 1)}, ValueError, r"bias must have shape \[4\]"),
            ({"q": q, "bias": torch.ones(4).long()}, TypeError, "bias must be one of float64"),
            ({"q": q, "bias": [0.0] * 4}, TypeError, "bias must be a torch.Tensor, got list"),
            ({"q": q, "exclude": 0}, TypeError, "exclude must be a tuple of ints, got int"),
            ({"q": q, "exclude": (0.5,)}, TypeError, "exclude must hold ints, got float"),
        ],
    )
    def test_both_operators(self, arguments, error, message):
        with pytest.raises(error, match="^logsumexp: " + message):
            logsumexp(**arguments)
        arguments = {"k": None, "row_weight": torch.ones(4)} | arguments
        with pytest.raises(error, match="^weighted_logsumexp: " + message):
            weighted_logsumexp(**arguments)

    @pytest.mark.parametrize(
        ("weight", "error", "message"),
        [
            (torch.ones(3), ValueError, r"row_weight must have shape \[4\], got \[3\]"),
            (torch.ones(4).int(), TypeError, "row_weight must be one of float64.*got int32"),
            (1.0, TypeError, "row_weight must be a torch.Tensor, got float"),
        ],
    )
    def test_row_weight(self, weight, error, message):
        with pytest.raises(error, match="^weighted_logsumexp: " + message):
            weighted_logsumexp(self.q, None, weight)
