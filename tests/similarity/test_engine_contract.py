"""logsumexp and weighted_logsumexp under the operator contract."""

from __future__ import annotations

from typing import Any, ClassVar

import torch

from sslkernels.checks import accumulate_dtype
from sslkernels.similarity import logsumexp, reference, weighted_logsumexp
from tests import rounding
from tests.contract import OpContract


def draw_tensors(dtype, names, seed, rows, columns, features, scale):
    """The tensors of a call, by name; those of the engine in order, then row_weight."""
    generator = torch.Generator().manual_seed(seed)
    acc = accumulate_dtype(dtype)
    q, k = (
        torch.randn(rows, features, generator=generator),
        torch.randn(columns, features, generator=generator),
    )
    bias = torch.randn(columns, generator=generator)
    weight = torch.randn(rows, generator=generator)
    tensors = {
        "q": (q / features**0.5).to(dtype),
        "k": (k / features**0.5).to(dtype),
        "row_weight": weight.to(acc),
        "scale": torch.tensor(scale, dtype=acc),
        "bias": bias.to(acc),
    }
    return {name: x for name, x in tensors.items() if name in names}


class TestLogSumExp(OpContract):
    op = "logsumexp"
    variants: ClassVar = {
        "cross": {"names": ("q", "k", "scale")},
        "cross with bias": {"names": ("q", "k", "scale", "bias"), "exclude": (1, 4)},
        "symmetric": {"names": ("q", "scale"), "exclude": (0,)},
        "symmetric with bias": {"names": ("q", "scale", "bias"), "exclude": (0, 3)},
    }

    def make(self, dtype, variant, seed=0, rows=7, columns=11, features=33, scale=1.7):
        names = variant["names"]
        columns = columns if "k" in names else rows
        return draw_tensors(dtype, names, seed, rows, columns, features, scale)

    def call(self, tensors, variant):
        return logsumexp(**tensors, exclude=variant.get("exclude", ()))

    def reference(self, tensors, variant):
        return reference.logsumexp(**tensors, exclude=variant.get("exclude", ()))

    def tolerances(self, dtype, tensors, variant, upstream):
        arguments = {"k": None, "bias": None} | tensors
        return rounding.engine(dtype, upstream, **arguments, exclude=variant.get("exclude", ()))

    def operators(self, namespace):
        samples = []
        for args, _ in sample_arguments(self):
            lse = namespace.logsumexp_forward(*args)
            samples.append((namespace.logsumexp_forward.default, args))
            for with_dk in (True, False):
                backward = (torch.rand_like(lse), lse, *args[:-1], with_dk, args[-1])
                samples.append((namespace.logsumexp_backward.default, backward))
        return samples


class TestWeightedLogSumExp(OpContract):
    op = "weighted_logsumexp"
    variants: ClassVar = {
        name: variant | {"names": (*variant["names"], "row_weight")}
        for name, variant in TestLogSumExp.variants.items()
    }

    def make(self, dtype, variant, seed=0, rows=7, columns=11, features=33, scale=1.7):
        names = variant["names"]
        columns = columns if "k" in names else rows
        return draw_tensors(dtype, names, seed, rows, columns, features, scale)

    def call(self, tensors, variant):
        arguments = {"k": None} | tensors
        return weighted_logsumexp(**arguments, exclude=variant.get("exclude", ()))

    def reference(self, tensors, variant):
        arguments = {"k": None} | tensors
        return reference.weighted_logsumexp(**arguments, exclude=variant.get("exclude", ()))

    def tolerances(self, dtype, tensors, variant, upstream):
        arguments: dict[str, Any] = {"k": None, "bias": None} | tensors
        weight = arguments.pop("row_weight")
        exclude = variant.get("exclude", ())
        rows, gradients = rounding.engine(dtype, upstream * weight, **arguments, exclude=exclude)
        # A half-precision gradient is stored before and after the upstream scalar multiplies it.
        for name in ("q", "k"):
            gradients[name] = 2 * gradients[name]
        gradients["row_weight"] = upstream.abs() * rows
        return (weight.abs() * rows).sum(), gradients

    def operators(self, namespace):
        samples = []
        for (q, k, *rest), weight in sample_arguments(self):
            args = (q, k, weight, *rest)
            samples.append((namespace.weighted_logsumexp_forward.default, args))
        return samples


def sample_arguments(contract):
    for variant in contract.variants.values():
        for dtype in (torch.float32, torch.bfloat16):
            x = contract.make(dtype, variant)
            exclude = list(variant.get("exclude", ()))
            args = (x["q"], x.get("k"), x["scale"], x.get("bias"), exclude, 0)
            yield args, x.get("row_weight")
