"""nce_loss under the operator contract, by hand, and at its limits."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import sslkernels
from sslkernels import nce_loss, nn
from sslkernels.checks import FLOAT_DTYPES, accumulate_dtype
from sslkernels.losses.nce import reference
from sslkernels.similarity import chunked
from tests import rounding
from tests.contract import OpContract
from tests.losses import contrastive

LOG_PROBS = ("positive_log_prob", "noise_log_prob")


class TestNCE(OpContract):
    """Noise of each row's own, and its log-probabilities, travel as a matrix and a vector."""

    op = "nce_loss"
    variants: ClassVar = {
        "shared": {"reduction": "mean", "log_probs": True},
        "negative sampling": {"reduction": "sum", "normalize": True},
        "own none": {"reduction": "none", "own": True, "log_probs": True},
    }

    def make(self, dtype, variant, seed=0, rows=7, features=33, noise=5, scale=1.7):
        x = contrastive.draw_views(dtype, ("query", "positive"), seed, rows, features)
        count = noise * (rows if variant.get("own") else 1)
        x |= contrastive.draw_views(dtype, ("noise",), seed + 1, count, features)
        acc = accumulate_dtype(dtype)
        if variant.get("log_probs"):
            generator = torch.Generator().manual_seed(seed + 2)
            for name, size in zip(LOG_PROBS, (rows, count), strict=True):
                x[name] = torch.randn(size, generator=generator).to(acc) - 2
        return x | {"scale": torch.tensor(scale, dtype=acc)}

    def arguments(self, tensors, variant):
        options = {name: x for name, x in variant.items() if name in ("reduction", "normalize")}
        if variant.get("own"):
            rows = len(tensors["query"])
            for name in ("noise", "noise_log_prob"):
                if name in tensors:
                    options[name] = tensors[name].unflatten(0, (rows, -1))
        return tensors | options

    def call(self, tensors, variant):
        return nce_loss(**self.arguments(tensors, variant))

    def reference(self, tensors, variant):
        return reference(**self.arguments(tensors, variant))

    def tolerances(self, dtype, tensors, variant, upstream):
        q, scale, m = tensors["query"], tensors["scale"], len(tensors["query"])
        k = torch.cat([tensors["positive"], tensors["noise"]])
        normalize, reduction = variant.get("normalize", False), variant["reduction"]
        zq, zk = contrastive.unit(q, normalize)[0], contrastive.unit(k, normalize)[0]
        among = torch.ones(m, len(k), dtype=torch.bool)
        if variant.get("own"):
            among[:, m:] = torch.eye(m).bool().repeat_interleave(len(k) // m - 1, 1)
        among[:, :m] = torch.eye(m).bool()
        bias = torch.zeros(len(k), dtype=torch.float64)
        if variant.get("log_probs"):
            count = (len(k) - m) // (m if variant.get("own") else 1)
            bias = -torch.cat([tensors[name] for name in LOG_PROBS]) - math.log(count)
        signed = scale * zq @ zk.T + bias
        signed = torch.cat([-signed[:, :m], signed[:, m:]], 1)
        logit = contrastive.logit_error(dtype, zq, zk, scale, bias)
        wrong = signed.sigmoid() * among
        losses = torch.nn.functional.softplus(signed) * among
        rows = 2 * (wrong * logit).sum(1) + rounding.sum_error(dtype, len(k)) * losses.sum(1)
        per_row = upstream.expand(m) / (m if reduction == "mean" else 1)
        terms = per_row.abs()[:, None] * wrong
        out = contrastive.gradients(dtype, terms, q, k, scale, bias, normalize)
        value = contrastive.reduced(dtype, rows, losses.sum(1), reduction, m)
        named = {"query": out["q"], "positive": out["k"][:m], "noise": out["k"][m:]}
        named |= {"scale": out["scale"]}
        named |= dict(zip(LOG_PROBS, (out["bias"][:m], out["bias"][m:]), strict=True))
        return value, {name: named[name] for name in tensors}

    @pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
    def test_what_is_not_finite_shows(self, implementation, variant, bad):
        """In the gradient at least: a logit of the right infinity is a pair that is certain."""
        for name in ("query", "positive", "noise"):
            tensors = self.make(torch.float32, variant)
            tensors[name][1, 0] = bad
            out = self.run(tensors, variant)
            shown = [x for key, x in out.items() if not x.isfinite().all()]
            assert shown and (not math.isnan(bad) or not out["value"].isfinite().all()), name

    def operators(self, namespace):
        if namespace is torch.ops.sslkernels:
            return []
        samples = []
        for dtype in (torch.float32, torch.bfloat16):
            x = self.make(dtype, self.variants["shared"])
            for bias in (None, x["noise_log_prob"]):
                args = (x["query"], x["noise"], x["scale"], bias)
                total = namespace.softplus_sum_forward(*args)
                samples.append((namespace.softplus_sum_forward.default, args))
                backward = (torch.rand_like(total), *args)
                samples.append((namespace.softplus_sum_backward.default, backward))
        return samples


class TestDrawn:
    op = "nce_loss"

    @settings(max_examples=60)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(1, 30),
        features=st.sampled_from([1, 3, 17, 130]),
        noise=st.integers(1, 70),
        seed=st.integers(0, 2**31),
        budget=st.sampled_from([0.0, 1e-3, 64.0]),
        own=st.booleans(),
        log_probs=st.booleans(),
        normalize=st.booleans(),
        reduction=st.sampled_from(["mean", "sum", "none"]),
    )
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, noise, seed, budget, **variant
    ):
        contract = TestNCE()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunked, "BUDGET_MIB", budget)
            contract.check(contract.make(dtype, variant, seed, rows, features, noise), variant)

    def test_definition_by_hand(self):
        """From loops over Python's floats: the posterior of data against K times the noise."""
        x = contrastive.draw_views(torch.float64, ("q", "p"), 5, 3, 4)
        noise = contrastive.draw_views(torch.float64, ("n",), 6, 5, 4)["n"]
        log_p, log_n = torch.tensor([-1.0, -2.0, -0.5]), torch.linspace(-3, -1, 5).double()
        expected = []
        for i in range(3):
            model = math.exp(1.3 * (x["q"][i] @ x["p"][i]).item())
            loss = -math.log(model / (model + 5 * math.exp(log_p[i])))
            for j in range(5):
                model = math.exp(1.3 * (x["q"][i] @ noise[j]).item())
                other = 5 * math.exp(log_n[j])
                loss -= math.log(other / (model + other))
            expected.append(loss)
        given = {"positive_log_prob": log_p.double(), "noise_log_prob": log_n.double()}
        actual = reference(x["q"], x["p"], noise, scale=1.3, reduction="none", **given)
        assert torch.allclose(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)

    def test_negative_sampling_is_noise_of_one_over_k(self, implementation):
        q, p, noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()
        given = {name: torch.full((4,), -math.log(4.0)) for name in LOG_PROBS}
        assert torch.allclose(nce_loss(q, p, noise), nce_loss(q, p, noise, **given))

    def test_gradient_is_that_of_likelihood_where_noise_is_plenty(self, implementation):
        """All words as noise, each many times: the softmax's gradient, if it sums to one."""
        generator = torch.Generator().manual_seed(1)
        words = torch.randn(6, 4, generator=generator, dtype=torch.float64)
        q = torch.randn(1, 4, generator=generator, dtype=torch.float64).requires_grad_()
        log_z = (q @ words.T).logsumexp(1).detach()
        times = 3000
        given = {
            "positive_log_prob": torch.full((1,), -math.log(6.0)) + log_z,
            "noise_log_prob": torch.full((6 * times,), -math.log(6.0)) + log_z,
        }
        loss = nce_loss(q, words[2:3], words.repeat(times, 1), **given)
        (actual,) = torch.autograd.grad(loss, q)
        exact = torch.nn.functional.cross_entropy(q @ words.T, torch.tensor([2]))
        (expected,) = torch.autograd.grad(exact, q)
        assert torch.allclose(actual, expected, rtol=2e-3, atol=2e-3)

    def test_module(self):
        q, p, noise = torch.randn(3, 4, 5, generator=torch.Generator().manual_seed(0)).unbind()
        module = nn.NCELoss(2.0, learnable=True, normalize=True)
        loss = module(q, p, noise)
        assert torch.allclose(loss, nce_loss(q, p, noise, scale=2.0, normalize=True))
        loss.backward()
        assert module.logit_scale.grad != 0.0 and {*module.state_dict()} == {"logit_scale"}

    def test_memory_stays_within_the_tiles(self, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", 0.05)
        x, sizes, create = torch.randn(300, 4, requires_grad=True), [], chunked.logits_tile
        monkeypatch.setattr(
            chunked, "logits_tile", lambda *a: sizes.append((t := create(*a)).numel()) or t
        )
        with sslkernels.backend("chunked"):
            nce_loss(x, x, x).backward()
        assert sum(sizes) >= 300 * 300 and 4 * max(sizes) <= 0.05 * 2**20
