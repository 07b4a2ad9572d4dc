"""pair_terms under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

from sslkernels import checks
from sslkernels.similarity import reference
from sslkernels.similarity.pairs import pair_terms
from tests import rounding
from tests.contract import OpContract
from tests.losses import contrastive
from tests.similarity.test_engine_contract import draw_tensors


class TestPairTerms(OpContract):
    """The value is [M + n + M]: lse of rows, lse of columns, logits of the pairs."""

    op = "pair_terms"
    names = ("q", "k", "scale")
    variants: ClassVar = {
        "square": {"rows": 9, "columns": 9},
        "wide": {"rows": 7, "columns": 11, "first": 3},
        # Rows of lse so far apart that no one shift of the exponents does for all.
        "far apart": {"rows": 8, "columns": 8, "scale": 60.0},
    }

    def make(self, dtype, variant, seed=0, features=33):
        rows, columns, scale = variant["rows"], variant["columns"], variant.get("scale", 1.7)
        x = draw_tensors(dtype, self.names, seed, rows, columns, features, scale)
        if "scale" in variant:
            x["q"][1] *= 4.0
            x["k"][2] *= -4.0
        return x

    def call(self, tensors, variant):
        q, k = checks.autocast(tensors["q"]), checks.autocast(tensors["k"])
        return torch.cat(pair_terms(q, k, tensors["scale"], variant.get("first", 0)))

    def reference(self, tensors, variant):
        return torch.cat(reference.pair_terms(**tensors, first=variant.get("first", 0)))

    def tolerances(self, dtype, tensors, variant, upstream):
        q, k, scale = (tensors[name] for name in self.names)
        rows, columns = len(q), len(k)
        of_rows, of_columns, of_pairs = upstream.abs().split([rows, columns, rows])
        s = reference.logits(q, k, scale=scale)
        logit = contrastive.logit_error(dtype, q, k, scale)
        value = [
            rounding._lse_error(dtype, s, logit),
            rounding._lse_error(dtype, s.T, logit),
            (logit + 2 * rounding.sum_error(dtype) * s.abs().amax()).expand(rows),
        ]
        terms = of_rows[:, None] * rounding.probabilities(dtype, s)
        terms = terms + of_columns * rounding.probabilities(dtype, s.T).T
        terms.diagonal(variant.get("first", 0)).add_(of_pairs)
        gradients = contrastive.gradients(dtype, terms, q, k, scale, None, False)
        return torch.cat(value) + torch.finfo(dtype).tiny, {
            name: gradients[name] for name in self.names
        }

    def operators(self, namespace):
        samples = []
        for variant in self.variants.values():
            for dtype in (torch.float32, torch.bfloat16):
                args = (*self.make(dtype, variant).values(), variant.get("first", 0), 0)
                terms = namespace.pair_terms_forward(*args)
                samples.append((namespace.pair_terms_forward.default, args))
                upstream = tuple(torch.rand_like(x) for x in terms)
                backward = (*upstream, *terms[:2], *args)
                samples.append((namespace.pair_terms_backward.default, backward))
        return samples
