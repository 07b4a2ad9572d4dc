"""nt_xent under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

import sslkernels
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.nt_xent import reference
from tests import rounding
from tests.contract import OpContract


class TestNTXent(OpContract):
    op = "nt_xent"
    variants: ClassVar = {
        f"{reduction}{'' if normalize else ' unnormalised'}{' decoupled' if decoupled else ''}": {
            "reduction": reduction,
            "normalize": normalize,
            "decoupled": decoupled,
        }
        for reduction, normalize, decoupled in [
            ("mean", True, False),
            ("sum", False, False),
            ("none", True, False),
            ("mean", False, True),
            ("sum", True, True),
            ("none", True, True),
        ]
    }

    def make(self, dtype, variant, seed=0, rows=9, features=33, temperature=0.4):
        generator = torch.Generator().manual_seed(seed)
        z1, z2 = torch.randn(2, rows, features, generator=generator).to(dtype)
        z1, z2 = z1 / features**0.5, z2 / features**0.5
        scalar = torch.tensor(temperature, dtype=accumulate_dtype(dtype))
        return {"z1": z1, "z2": z2, "temperature": scalar}

    def call(self, tensors, variant):
        return sslkernels.nt_xent(**tensors, **variant)

    def reference(self, tensors, variant):
        return reference(**tensors, **variant)

    def tolerances(self, dtype, tensors, variant, upstream):
        options = dict(variant)
        reduction = options.pop("reduction")
        rows = 2 * tensors["z1"].shape[0]
        per_row = upstream.expand(rows) / (rows if reduction == "mean" else 1)
        value, gradients = rounding.nt_xent(dtype, per_row, **tensors, **options)
        if reduction != "none":
            if dtype is torch.bfloat16:  # stored before and after the upstream scalar multiplies
                gradients |= {name: 2 * gradients[name] for name in ("z1", "z2")}
            value = value.mean() if reduction == "mean" else value.sum()
        return value, gradients

    def operators(self, namespace):
        if namespace is not torch.ops.sslkernels:
            return []  # composed of the engine's operators
        samples = []
        for variant in self.variants.values():
            for dtype in (torch.float32, torch.bfloat16):
                z1, z2, temperature = self.make(dtype, variant).values()
                options = (variant["normalize"], variant["decoupled"], variant["reduction"], 0)
                args = (z1, z2, temperature, *options)
                loss, lse, inv_norm = namespace.nt_xent_forward(*args)
                samples.append((namespace.nt_xent_forward.default, args))
                backward = (torch.ones_like(loss), lse, inv_norm, *args)
                samples.append((namespace.nt_xent_backward.default, backward))
                if variant["reduction"] != "none":
                    samples.append((namespace.nt_xent_forward_backward.default, args))
        return samples
