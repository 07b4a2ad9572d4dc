"""info_nce under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

from sslkernels import info_nce
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.info_nce import reference
from tests.contract import OpContract
from tests.losses import contrastive

OPTIONS = ("reduction", "normalize", "in_batch", "ids", "negative_ids")


class TestInfoNCE(OpContract):
    op = "info_nce"
    variants: ClassVar = {
        "mean": {"negatives": 0, "reduction": "mean"},
        "sum bias": {"negatives": 0, "reduction": "sum", "bias": True, "normalize": False},
        "queue": {"negatives": 13, "reduction": "mean"},
        "queue none bias": {"negatives": 13, "reduction": "none", "bias": True},
        "both none": {"negatives": 5, "reduction": "none", "bias": True, "in_batch": True},
    }

    def make(self, dtype, variant, seed=0, rows=7, features=33, temperature=0.4):
        x = contrastive.draw_views(dtype, ("query", "positive"), seed, rows, features)
        generator = torch.Generator().manual_seed(seed + 1)
        extra = variant["negatives"]
        if extra:
            drawn = torch.randn(extra, features, generator=generator) / features**0.5
            x["negatives"] = drawn.to(dtype)
        acc = accumulate_dtype(dtype)
        if variant.get("bias"):
            x["bias"] = torch.randn(rows + extra, generator=generator).to(acc)
        return x | {"temperature": torch.tensor(temperature, dtype=acc)}

    def call(self, tensors, variant):
        return info_nce(**tensors, **{n: x for n, x in variant.items() if n in OPTIONS})

    def reference(self, tensors, variant):
        return reference(**tensors, **{n: x for n, x in variant.items() if n in OPTIONS})

    def allowed(self, rows, keys, variant):
        row, column = torch.arange(rows)[:, None], torch.arange(keys)
        allowed = torch.ones(rows, keys, dtype=torch.bool)
        if keys > rows and not variant.get("in_batch"):
            allowed = (column >= rows).expand(rows, keys)
        if "ids" in variant:
            key_ids = torch.cat([variant["ids"], variant.get("negative_ids", row[:0, 0])])
            allowed = allowed & (variant["ids"][:, None] != key_ids)
        return allowed | (row == column)

    def tolerances(self, dtype, tensors, variant, upstream):
        q, p = tensors["query"], tensors["positive"]
        k = torch.cat([p, tensors["negatives"]]) if "negatives" in tensors else p
        rows, keys, scale = len(q), len(k), 1 / tensors["temperature"]
        reduction = variant["reduction"]
        per_row = upstream.expand(rows) / (rows if reduction == "mean" else 1)
        value, gradient, terms = contrastive.softmax_rows(
            dtype,
            per_row,
            q,
            k,
            scale,
            torch.eye(rows, keys, dtype=torch.float64),
            allowed=self.allowed(rows, keys, variant),
            bias=tensors.get("bias"),
            normalize=variant.get("normalize", True),
        )
        exact = self.reference(tensors, variant | {"reduction": "none"})
        inner = (terms * (q.abs() @ k.abs().T)).sum() / (
            1 if not variant.get("normalize", True) else q.norm(dim=1).min() * k.norm(dim=1).min()
        )
        named = {
            "query": gradient["q"],
            "positive": gradient["k"][:rows],
            "negatives": gradient["k"][rows:],
            "bias": gradient["bias"],
            "temperature": contrastive.of_temperature(gradient["scale"], inner, scale, dtype),
        }
        value = contrastive.reduced(dtype, value, exact, reduction, rows)
        return value, {name: named[name] for name in tensors}

    def operators(self, namespace):
        return []  # composed of the engine's operators


class TestInfoNCEWithIds(TestInfoNCE):
    """False negatives in the batch, in the queue, and a row that is left with its positive."""

    op = "logsumexp_excluding"
    ids = torch.tensor([4, 9, 4, -1, 7, 9, 4])
    variants: ClassVar = {
        "mean": {"negatives": 0, "reduction": "mean", "ids": ids},
        "queue": {
            "negatives": 6,
            "reduction": "none",
            "bias": True,
            "ids": ids,
            "negative_ids": torch.tensor([9, 1, 9, 4, 8, 9]),
        },
        "queue of one id": {
            "negatives": 3,
            "reduction": "sum",
            "ids": ids,
            "negative_ids": torch.tensor([4, 4, 4]),
        },
        "both": {
            "negatives": 6,
            "reduction": "mean",
            "bias": True,
            "in_batch": True,
            "ids": ids,
            "negative_ids": torch.tensor([7, 1, 9, 4, 8, 9]),
        },
    }

    def operators(self, namespace):
        if namespace is torch.ops.sslkernels:
            return []
        samples = []
        for dtype in (torch.float32, torch.bfloat16):
            x = self.make(dtype, self.variants["queue"])
            args = (x["query"], x["negatives"], self.ids, self.variants["queue"]["negative_ids"])
            args += (self.ids > 0, x["temperature"], x["bias"][7:].contiguous())
            lse = namespace.logsumexp_excluding_forward(*args)
            samples.append((namespace.logsumexp_excluding_forward.default, args))
            backward = (torch.rand_like(lse), lse, *args)
            samples.append((namespace.logsumexp_excluding_backward.default, backward))
        return samples
