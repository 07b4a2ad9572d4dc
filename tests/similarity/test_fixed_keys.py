"""fixed_keys_logsumexp: against the engine's general operator, and under the operator contract."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sslkernels
from sslkernels import checks, info_nce
from sslkernels.checks import FLOAT_DTYPES, accumulate_dtype
from sslkernels.similarity import chunked, reference
from sslkernels.similarity.fixed_keys import fixed_keys_logsumexp, wants_no_gradient
from tests import rounding
from tests.contract import OpContract, assert_same_bits
from tests.similarity.test_engine_contract import draw_tensors


class TestFixedKeys(OpContract):
    op = "fixed_keys"
    names = ("q", "scale")
    variants: ClassVar = {
        "plain": {},
        "bias": {"bias": True},
        # Rows of exponents so far apart that no one shift does for all.
        "far apart": {"scale": 300.0},
    }

    def make(self, dtype, variant, seed=0, rows=7, features=33):
        scale = variant.get("scale", 1.7)
        return draw_tensors(dtype, self.names, seed, rows, 11, features, scale)

    def keys(self, tensors, variant):
        """Keys, and their bias, that go with the tensors."""
        q = tensors["q"]
        features, dtype = q.shape[-1], accumulate_dtype(q.dtype)
        # No generator, which neither vmap nor torch.export would take.
        column = torch.arange(variant.get("columns", 11)).double()
        feature, seed = torch.arange(features).double(), variant.get("seed", 0) % 1000
        k = torch.sin(
            7.1 * column[:, None] + 3.7 * feature + 0.9 * column[:, None] * feature + seed
        )
        k = (1.4 * k / features**0.5).to(variant.get("dtype", q.dtype)).to(q.dtype)
        return k, torch.cos(2.3 * column).to(dtype) if variant.get("bias") else None

    def call(self, tensors, variant):
        k, bias = self.keys(tensors, variant)
        q, k = checks.autocast(tensors["q"]), checks.autocast(k)
        return fixed_keys_logsumexp(q, k, tensors["scale"], bias)

    def reference(self, tensors, variant):
        k, bias = self.keys(tensors, variant)
        return reference.logsumexp(tensors["q"], k, scale=tensors["scale"], bias=bias)

    def tolerances(self, dtype, tensors, variant, upstream):
        q, scale = tensors.values()
        k, bias = self.keys(tensors, variant)
        value, gradients = rounding.engine(dtype, upstream, q, k, scale, bias, ())
        return value, {name: gradients[name] for name in self.names}

    def check(self, tensors, variant, seed=1):
        super().check(tensors, variant | {"dtype": tensors["q"].dtype}, seed)

    def operators(self, namespace):
        samples = []
        for variant in self.variants.values():
            for dtype in (torch.float32, torch.bfloat16):
                q, scale = self.make(dtype, variant).values()
                k, bias = self.keys({"q": q}, variant)
                args = (q, k, scale, bias, 0)
                samples.append((namespace.fixed_keys_forward.default, args))
        return samples


CONTRACT = TestFixedKeys()


class TestDrawn:
    op = "fixed_keys"

    @settings(max_examples=120)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(1, 70),
        columns=st.integers(1, 300),
        features=st.sampled_from([1, 3, 17, 32, 128, 513]),
        scale=st.just(0.0) | st.floats(1e-3, 30.0) | st.floats(-3.0, -1e-3) | st.just(300.0),
        bias=st.booleans(),
        seed=st.integers(0, 2**31),
    )
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, scale, seed, **variant
    ):
        variant |= {"scale": scale, "seed": seed}
        CONTRACT.check(CONTRACT.make(dtype, variant, seed, rows, features), variant)

    @pytest.mark.parametrize("rows, columns", [(31, 33), (64, 257), (1300, 1030), (2600, 70)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_sizes_around_blocks(self, implementation, rows, columns, dtype):
        variant = {"columns": columns, "bias": True}
        CONTRACT.check(CONTRACT.make(dtype, variant, 2, rows, 96), variant)


class TestEdges:
    op = "fixed_keys"

    @pytest.mark.parametrize("size", [1e-20, 1e20])
    def test_keys_of_any_size(self, implementation, size):
        """Yet the logits are ordinary."""
        q, scale = CONTRACT.make(torch.float32, {}).values()
        k, _ = CONTRACT.keys({"q": q}, {})
        q.requires_grad_()
        expected = fixed_keys_logsumexp(q, k, scale)
        (wanted,) = torch.autograd.grad(expected.sum(), q)
        lse = fixed_keys_logsumexp(q, k * size, scale / size)
        (gradient,) = torch.autograd.grad(lse.sum(), q)
        assert torch.allclose(lse, expected, rtol=1e-5)
        assert torch.allclose(gradient, wanted, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize("shift", [-1e4, -200.0, -90.0, 90.0, 200.0, 1e4])
    def test_bias_of_any_size(self, implementation, shift):
        tensors = CONTRACT.make(torch.float32, {})
        q, scale = (x.requires_grad_() for x in tensors.values())
        k, bias = CONTRACT.keys(tensors, {"bias": True})
        still = fixed_keys_logsumexp(q, k, scale, bias)
        moved = fixed_keys_logsumexp(q, k, scale, bias + shift)
        assert torch.allclose(moved, still + shift, rtol=1e-6, atol=1e-4)
        gradients = (torch.autograd.grad(x.sum(), (q, scale)) for x in (still, moved))
        for left, right in zip(*gradients, strict=True):
            assert torch.allclose(left, right, rtol=1e-2, atol=2e-3)

    def test_excluded_columns(self, implementation):
        """A bias of -inf takes a key out, all of them leave nothing."""
        tensors = CONTRACT.make(torch.float64, {})
        q, scale = (x.requires_grad_() for x in tensors.values())
        k, bias = CONTRACT.keys(tensors, {"bias": True})
        bias[3:] = -math.inf
        lse = fixed_keys_logsumexp(q, k, scale, bias)
        (gradient,) = torch.autograd.grad(lse.sum(), q)
        expected = fixed_keys_logsumexp(q, k[:3], scale, bias[:3])
        (wanted,) = torch.autograd.grad(expected.sum(), q)
        assert torch.allclose(lse, expected) and torch.allclose(gradient, wanted)

    @pytest.mark.parametrize("budget", [0.0, 1e-4, 4e-4])
    def test_any_budget_gives_the_same(self, budget, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        monkeypatch.setattr(chunked, "_FULL_ROWS", 4)
        with sslkernels.backend("chunked"):
            CONTRACT.check(CONTRACT.make(torch.float32, {}), {"bias": True})

    @pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
    def test_same_bits_for_any_number_of_threads(self, dtype):
        if sslkernels.backends.why_not(self.op, "cpu", torch.empty(0)):
            pytest.skip("no C++ kernels here")
        if torch.backends.cpu.get_cpu_capability() != "AVX512":
            pytest.skip("the BLAS's products depend on the number of threads")
        variant = {"columns": 1500, "bias": True}
        tensors = CONTRACT.make(dtype, variant, 1, 1400, 40)
        results, before = [], torch.get_num_threads()
        try:
            for threads in (1, 2, 3):
                torch.set_num_threads(threads)
                with sslkernels.backend("cpu"):
                    results.append(CONTRACT.run(tensors, variant))
        finally:
            torch.set_num_threads(before)
        for other in results[1:]:
            assert_same_bits(results[0], other)

    def test_keys_that_want_a_gradient_get_one(self, fused):
        """Whoever asks for it, and however."""
        q, p, n = torch.randn(3, 5, 4).unbind()
        leaves = [x.clone().requires_grad_() for x in (q, p, n)]
        wanted = torch.autograd.grad(info_nce(*leaves), leaves)
        assert not wants_no_gradient(leaves[2], None)
        for index in range(3):
            gradient = torch.func.grad(info_nce, index)(q, p, n)
            assert torch.allclose(gradient, wanted[index], atol=1e-6)
        fixed = info_nce(leaves[0], leaves[1], n)
        for left, right in zip(torch.autograd.grad(fixed, leaves[:2]), wanted, strict=False):
            assert torch.allclose(left, right, atol=1e-6)
