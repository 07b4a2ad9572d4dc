"""logit_terms under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity import logit_terms, reference
from tests import rounding
from tests.contract import OpContract
from tests.similarity.test_engine_contract import draw_tensors

TARGET = torch.tensor([3, 0, -1, 10, -1, 5, 3])


def column_weights(columns):
    """Signed, and zero here and there: they are factors, not probabilities."""
    index = torch.arange(columns)
    return torch.sin(1.7 * index).masked_fill(index % 4 == 1, 0.0)


class TestLogitTerms(OpContract):
    """The value is [3, M]: lse, target logit, weighted sum."""

    op = "logit_terms"
    variants: ClassVar = {
        "plain": {"names": ("q", "k", "scale")},
        "bias": {"names": ("q", "k", "scale", "bias")},
        "weight": {"names": ("q", "k", "scale"), "weight": True},
        "all": {"names": ("q", "k", "scale", "bias"), "weight": True, "softcap": 1.5},
    }

    def make(self, dtype, variant, seed=0, rows=7, columns=11, features=33, scale=1.7):
        return draw_tensors(dtype, variant["names"], seed, rows, columns, features, scale)

    def settings(self, tensors, variant):
        columns, dtype = tensors["k"].shape[-2], accumulate_dtype(tensors["k"].dtype)
        weight = column_weights(columns).to(dtype) if variant.get("weight") else None
        return {
            "target": variant.get("target", TARGET),
            "column_weight": weight,
            "softcap": variant.get("softcap"),
        }

    def call(self, tensors, variant):
        return torch.stack(logit_terms(**tensors, **self.settings(tensors, variant))[:3])

    def reference(self, tensors, variant):
        settings = self.settings(tensors, variant)
        settings["softcap"] = settings["softcap"] or 0.0
        return torch.stack(reference.logit_terms(**tensors, **settings)[:3])

    def tolerances(self, dtype, tensors, variant, upstream):
        arguments = {"bias": None} | tensors | self.settings(tensors, variant)
        arguments["softcap"] = arguments["softcap"] or 0.0
        return rounding.logit_terms(dtype, upstream, **arguments)

    def operators(self, namespace):
        samples = []
        for variant in self.variants.values():
            for dtype in (torch.float32, torch.bfloat16):
                x = self.make(dtype, variant)
                settings = self.settings(x, variant)
                target, weight, softcap = settings.values()
                q, k, scale, bias = x["q"], x["k"], x["scale"], x.get("bias")
                args = (q, k, target, scale, bias, weight, softcap or 0.0, 0)
                terms = namespace.logit_terms_forward(*args)
                samples.append((namespace.logit_terms_forward.default, args))
                upstream = tuple(torch.rand_like(x) for x in terms[:3])
                for with_dk in (True, False):
                    backward = (*upstream, terms[0], *args[:-1], with_dk, args[-1])
                    samples.append((namespace.logit_terms_backward.default, backward))
        return samples

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_shows(self, implementation, variant, bad):
        if "softcap" in variant and bad == bad:
            pytest.skip("the cap makes an infinite logit finite")
        super().test_what_is_not_finite_shows(implementation, variant, bad)
