"""info_nce with beta and tau_plus, and hard_negative_nt_xent, under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

from sslkernels import hard_negative_nt_xent, info_nce
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import hard_negatives
from sslkernels.losses import info_nce as info_nce_module
from tests.contract import OpContract
from tests.losses import contrastive


class TestHardNegativeNTXent(OpContract):
    op = "hard_negative_nt_xent"
    variants: ClassVar = {
        "hard": {"reduction": "mean", "beta": 1.0, "tau_plus": 0.1},
        "debiased none": {"reduction": "none", "beta": 0.0, "tau_plus": 0.05},
        "sum unnormalised": {"reduction": "sum", "beta": 0.5, "tau_plus": 0.0, "normalize": False},
    }

    def make(self, dtype, variant, seed=0, rows=9, features=33, temperature=0.4):
        x = contrastive.draw_views(dtype, ("z1", "z2"), seed, rows, features)
        return x | {"temperature": torch.tensor(temperature, dtype=accumulate_dtype(dtype))}

    def call(self, tensors, variant):
        return hard_negative_nt_xent(**tensors, **variant)

    def reference(self, tensors, variant):
        return hard_negatives.reference(**tensors, **variant)

    def tolerances(self, dtype, tensors, variant, upstream):
        z = torch.cat([tensors["z1"], tensors["z2"]])
        m, reduction = len(z), variant["reduction"]
        row = torch.arange(m)
        same = row[:, None] % (m // 2) == row % (m // 2)
        rows, gradients = contrastive.reweighted_rows(
            dtype,
            upstream.expand(m) / (m if reduction == "mean" else 1),
            z,
            z,
            1 / tensors["temperature"],
            same & (row[:, None] != row),
            ~same,
            variant["beta"],
            variant["tau_plus"],
            variant.get("normalize", True),
        )
        exact = self.reference(tensors, variant | {"reduction": "none"})
        dz = gradients["q"] + gradients["k"]
        value = contrastive.reduced(dtype, rows, exact, reduction, m)
        parts = {"z1": dz[: m // 2], "z2": dz[m // 2 :]}
        return value, parts | {"temperature": gradients["temperature"]}

    def operators(self, namespace):
        return []  # composed of the engine's operators


class TestReweightedInfoNCE(OpContract):
    """Negatives from the batch, a queue, or of each row's own; these travel as a matrix."""

    op = "info_nce"
    variants: ClassVar = {
        "batch hard": {"kind": "batch", "reduction": "mean", "beta": 1.0, "tau_plus": 0.1},
        "queue hard": {"kind": "queue", "reduction": "none", "beta": 2.0, "tau_plus": 0.05},
        "queue debiased": {"kind": "queue", "reduction": "sum", "beta": 0.0, "tau_plus": 0.1},
        "own": {"kind": "own", "reduction": "none", "beta": 0.0, "tau_plus": 0.0},
        "own hard in batch": {
            "kind": "own",
            "reduction": "mean",
            "beta": 0.5,
            "tau_plus": 0.1,
            "in_batch": True,
        },
    }

    def make(self, dtype, variant, seed=0, rows=7, features=33, negatives=5, temperature=0.4):
        x = contrastive.draw_views(dtype, ("query", "positive"), seed, rows, features)
        if variant["kind"] != "batch":
            count = negatives * (rows if variant["kind"] == "own" else 1)
            x |= contrastive.draw_views(dtype, ("negatives",), seed + 1, count, features)
        return x | {"temperature": torch.tensor(temperature, dtype=accumulate_dtype(dtype))}

    def arguments(self, tensors, variant):
        options = {name: x for name, x in variant.items() if name != "kind"}
        if variant["kind"] != "own":
            return tensors | options
        rows = len(tensors["query"])
        return tensors | options | {"negatives": tensors["negatives"].unflatten(0, (rows, -1))}

    def call(self, tensors, variant):
        return info_nce(**self.arguments(tensors, variant))

    def reference(self, tensors, variant):
        return info_nce_module.reference(**self.arguments(tensors, variant))

    def tolerances(self, dtype, tensors, variant, upstream):
        q, p = tensors["query"], tensors["positive"]
        m, reduction = len(q), variant["reduction"]
        k = torch.cat([p, tensors["negatives"]]) if "negatives" in tensors else p
        own = torch.eye(m, len(k), dtype=torch.bool)
        among = torch.ones(m, len(k), dtype=torch.bool)
        if variant["kind"] == "own":
            among[:, m:] = torch.eye(m, dtype=torch.bool).repeat_interleave(len(k) // m - 1, 1)
        if variant["kind"] != "batch" and not variant.get("in_batch"):
            among[:, :m] = False
        if "ids" in variant:
            key_ids = torch.cat([variant["ids"], variant["negative_ids"].flatten()])
            among &= variant["ids"][:, None] != key_ids
        rows, gradients = contrastive.reweighted_rows(
            dtype,
            upstream.expand(m) / (m if reduction == "mean" else 1),
            q,
            k,
            1 / tensors["temperature"],
            own,
            among & ~own,
            variant["beta"],
            variant["tau_plus"],
            variant.get("normalize", True),
        )
        exact = self.reference(tensors, variant | {"reduction": "none"})
        named = {"query": gradients["q"], "positive": gradients["k"][:m]}
        named |= {"negatives": gradients["k"][m:], "temperature": gradients["temperature"]}
        value = contrastive.reduced(dtype, rows, exact, reduction, m)
        return value, {name: named[name] for name in tensors}

    def operators(self, namespace):
        return []  # composed of the engine's operators


class TestReweightedIds(TestReweightedInfoNCE):
    """False negatives in the batch and in the queue."""

    op = "logsumexp_excluding"
    ids = torch.tensor([4, 9, 4, -1, 7, 9, 4])
    variants: ClassVar = {
        "queue": {
            "kind": "queue",
            "reduction": "none",
            "beta": 2.0,
            "tau_plus": 0.05,
            "ids": ids,
            "negative_ids": torch.tensor([9, 1, 9, 4, 8]),
        },
        "own in batch": {
            "kind": "own",
            "reduction": "mean",
            "beta": 1.0,
            "tau_plus": 0.0,
            "in_batch": True,
            "ids": ids,
            "negative_ids": torch.tensor([[1, 2, 3, 4, 9]] * 7),
        },
    }
