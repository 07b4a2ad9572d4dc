"""linear_cross_entropy under the operator contract, with both kinds of target."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch

import sslkernels
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.linear_cross_entropy import reference
from tests import rounding
from tests.contract import OpContract

TARGET = torch.tensor([3, 0, -100, 10, -100, 5, 3])


def class_weights(classes, dtype):
    return (1.0 + torch.sin(1.7 * torch.arange(classes))).to(dtype)


def draw_linear(dtype, names, seed, rows, classes, features):
    """Input, weight and bias of a linear layer whose logits are of order one."""
    generator = torch.Generator().manual_seed(seed)
    input = torch.randn(rows, features, generator=generator) / features**0.5
    weight = 2 * torch.randn(classes, features, generator=generator)
    bias = torch.randn(classes, generator=generator).to(accumulate_dtype(dtype))
    tensors = {"input": input.to(dtype), "linear_weight": weight.to(dtype), "linear_bias": bias}
    return {name: x for name, x in tensors.items() if name in names}


class TestLinearCrossEntropy(OpContract):
    op = "linear_cross_entropy"
    plain = ("input", "linear_weight")
    variants: ClassVar = {
        "mean": {"names": plain},
        "sum bias smoothing": {
            "names": (*plain, "linear_bias"),
            "reduction": "sum",
            "label_smoothing": 0.2,
        },
        "mean bias weight z": {
            "names": (*plain, "linear_bias"),
            "weight": True,
            "z_loss": 0.1,
        },
        "none everything": {
            "names": (*plain, "linear_bias"),
            "reduction": "none",
            "weight": True,
            "label_smoothing": 0.1,
            "z_loss": 0.05,
            "softcap": 2.0,
        },
    }

    def make(self, dtype, variant, seed=0, rows=7, classes=11, features=33):
        return draw_linear(dtype, variant["names"], seed, rows, classes, features)

    def options(self, tensors, variant):
        options = {name: x for name, x in variant.items() if name not in ("names", "target")}
        if options.get("weight"):
            like = tensors["linear_weight"]
            options["weight"] = class_weights(like.shape[0], accumulate_dtype(like.dtype))
        return options

    def target(self, tensors, variant):
        return variant.get("target", TARGET)

    def call(self, tensors, variant):
        return self.run_with(sslkernels.linear_cross_entropy, tensors, variant)

    def reference(self, tensors, variant):
        return self.run_with(reference, tensors, variant)

    def run_with(self, function, tensors, variant):
        tensors = {"target": self.target(tensors, variant)} | tensors
        return function(**tensors, **self.options(tensors, variant))

    def tolerances(self, dtype, tensors, variant, upstream):
        options = {"weight": None, "label_smoothing": 0.0, "softcap": None, "z_loss": 0.0}
        options |= self.options(tensors, variant)
        reduction = options.get("reduction", "mean")
        target, divisor = self.soft_target(tensors, variant, options)
        rows = target.shape[0]
        per_row = upstream.expand(rows) / (divisor if reduction == "mean" else 1)
        q, k = tensors["input"].reshape(rows, -1), tensors["linear_weight"]
        value, gradients = rounding.cross_entropy(
            dtype,
            per_row,
            q,
            k,
            tensors.get("linear_bias"),
            target,
            options["z_loss"],
            options["softcap"] or 0.0,
        )
        if reduction != "none":
            exact = self.reference(tensors, variant | {"reduction": "none"})
            value = value.sum() + rounding.sum_error(dtype, rows) * exact.abs().sum()
            value = value / (divisor if reduction == "mean" else 1)
        names = {"input": "q", "linear_weight": "k", "linear_bias": "bias", "target": "target"}
        return value, {name: gradients[names[name]] for name in tensors}

    def soft_target(self, tensors, variant, options):
        """Weighted and smoothed target [M, V] in float64, and the mean's divisor."""
        target, classes = self.target(tensors, variant), tensors["linear_weight"].shape[0]
        counted = target != -100
        one_hot = torch.zeros(len(target), classes).double()
        one_hot.scatter_(1, target.clamp_min(0)[:, None], 1.0)
        soft = self.smooth(one_hot, options["label_smoothing"]) * counted[:, None]
        if options["weight"] is None:
            return soft, counted.sum().clamp_min(1)
        weight = options["weight"].double()
        divisor = (weight * one_hot * counted[:, None]).sum()
        return weight * soft, divisor if counted.any() else torch.ones(())

    def smooth(self, target, smoothing):
        return (1 - smoothing) * target + smoothing / target.shape[1]

    def operators(self, namespace):
        return []  # composed of the engine's operators

    @pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
    def test_what_is_not_finite_shows(self, implementation, variant, bad):
        if "softcap" in variant and bad == bad:
            pytest.skip("the cap makes an infinite logit finite")
        super().test_what_is_not_finite_shows(implementation, variant, bad)


class TestClassProbabilities(TestLinearCrossEntropy):
    """The target is one of the differentiable tensors."""

    op = "soft_target_terms"
    variants: ClassVar = {
        name: variant | {"names": (*variant["names"], "target")}
        for name, variant in TestLinearCrossEntropy.variants.items()
    }

    def make(self, dtype, variant, seed=0, rows=7, classes=11, features=33):
        tensors = super().make(dtype, variant, seed, rows, classes, features)
        generator = torch.Generator().manual_seed(seed + 1)
        # Exact in every dtype, so that a cast changes nothing.
        target = torch.randint(0, 65, (rows, classes), generator=generator) / 64
        return tensors | {"target": target.to(dtype)}

    def target(self, tensors, variant):
        return tensors["target"]

    def soft_target(self, tensors, variant, options):
        soft = self.smooth(tensors["target"].double(), options["label_smoothing"])
        weight = options["weight"]
        return soft if weight is None else weight.double() * soft, max(1, len(soft))

    def tolerances(self, dtype, tensors, variant, upstream):
        value, gradients = super().tolerances(dtype, tensors, variant, upstream)
        options = self.options(tensors, variant)
        weight = options.get("weight")
        keep = 1 - options.get("label_smoothing", 0.0)
        factor = keep if weight is None else keep * weight.double()
        exact = {name: x.detach().requires_grad_() for name, x in tensors.items()}
        total = (upstream * self.reference(exact, variant)).sum()
        (dtarget,) = torch.autograd.grad(total, exact["target"])
        tolerance = gradients["target"] * factor
        gradients["target"] = rounding.stored(tolerance, dtarget.abs(), dtype)
        return value, gradients

    def operators(self, namespace):
        if namespace is torch.ops.sslkernels:
            return []
        samples = []
        for softcap, weight in ((0.0, None), (2.0, class_weights(11, torch.float32))):
            for dtype in (torch.float32, torch.bfloat16):
                x = self.make(dtype, self.variants["none everything"])
                args = (x["input"], x["linear_weight"], x["target"], x["linear_bias"], weight)
                args += (0.1, softcap)
                terms = namespace.soft_target_terms_forward(*args)
                samples.append((namespace.soft_target_terms_forward.default, args))
                upstream = tuple(torch.rand_like(term) for term in terms[:3])
                backward = (*upstream, terms[0], *args, dtype is torch.float32)
                samples.append((namespace.soft_target_terms_backward.default, backward))
        return samples
