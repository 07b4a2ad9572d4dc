"""supcon under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

from sslkernels import supcon
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.supcon import reference
from tests import rounding
from tests.contract import OpContract
from tests.losses import contrastive

LABELS = torch.tensor([3, -1, 3, 7, 3, -1, 10**12, 7, 5])  # two rows are alone in their class


class TestSupCon(OpContract):
    op = "supcon"
    variants: ClassVar = {
        "mean": {"reduction": "mean"},
        "sum unnormalised": {"reduction": "sum", "normalize": False},
        "none": {"reduction": "none"},
        "one class": {"reduction": "mean", "labels": torch.zeros(9, dtype=torch.uint8)},
    }

    def make(self, dtype, variant, seed=0, rows=9, features=33, temperature=0.4):
        x = contrastive.draw_views(dtype, ("z",), seed, rows, features)
        return x | {"temperature": torch.tensor(temperature, dtype=accumulate_dtype(dtype))}

    def call(self, tensors, variant):
        return supcon(**({"labels": LABELS} | tensors | variant))

    def reference(self, tensors, variant):
        return reference(**({"labels": LABELS} | tensors | variant))

    def tolerances(self, dtype, tensors, variant, upstream):
        z, scale = tensors["z"], 1 / tensors["temperature"]
        normalize, reduction = variant.get("normalize", True), variant["reduction"]
        labels, m = variant.get("labels", LABELS), len(z)
        same = (labels[:, None] == labels).double()
        others = same.sum(1) - 1
        counted = others > 0
        count = max(1, int(counted.sum()))
        per_row = upstream.expand(m) / (count if reduction == "mean" else 1)
        # The sum of the class less the row itself, before they cancel.
        linear = (same + torch.eye(m)) / others.clamp_min(1)[:, None] * counted[:, None]
        rows, gradients, terms = contrastive.softmax_rows(
            dtype,
            per_row * counted,
            z,
            z,
            scale,
            linear,
            allowed=~torch.eye(m, dtype=torch.bool),
            normalize=normalize,
        )
        exact = self.reference(tensors, variant | {"reduction": "none"})
        value = contrastive.reduced(dtype, rows * counted, exact, reduction, count)
        zz, _ = contrastive.unit(z, normalize)
        inner = (terms * (zz.abs() @ zz.abs().T)).sum()
        tiny = torch.finfo(accumulate_dtype(dtype)).tiny
        return value + tiny, {
            # Stored before and after the upstream scalar multiplies.
            "z": (gradients["q"] + gradients["k"]) * (2 if reduction != "none" else 1),
            "temperature": contrastive.of_temperature(gradients["scale"], inner, scale, dtype)
            + rounding.sum_error(dtype, m) * inner * scale**2,
        }

    def operators(self, namespace):
        if namespace is not torch.ops.sslkernels:
            return []  # composed of the engine's operators
        samples = []
        for dtype in (torch.float32, torch.float64, torch.bfloat16):
            tensors = self.make(dtype, {})
            scale = 1 / tensors["temperature"]
            for settings in ((True, "mean", 0), (False, "sum", 1)):
                args = (tensors["z"], LABELS, scale, *settings)
                samples.append((namespace.supcon_forward_backward.default, args))
        return samples
