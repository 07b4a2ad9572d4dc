"""clip_loss and siglip_loss under the operator contract."""

from __future__ import annotations

from typing import ClassVar

import torch

from sslkernels import clip_loss, siglip_loss
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import clip, siglip
from tests import rounding
from tests.contract import OpContract
from tests.losses import contrastive


class TestCLIP(OpContract):
    op = "clip_loss"
    definition = staticmethod(clip.reference)
    function = staticmethod(clip_loss)
    variants: ClassVar = {
        "plain": {"names": ("image", "text", "logit_scale")},
        "bias": {"names": ("image", "text", "logit_scale", "logit_bias")},
        "unnormalised": {"names": ("image", "text", "logit_scale"), "normalize": False},
    }

    def make(self, dtype, variant, seed=0, rows=9, features=33, scale=2.5, bias=-1.5):
        x = contrastive.draw_views(dtype, ("image", "text"), seed, rows, features)
        x["logit_scale"] = torch.tensor(scale, dtype=accumulate_dtype(dtype))
        x["logit_bias"] = torch.tensor(bias, dtype=accumulate_dtype(dtype))
        return {name: x[name] for name in variant["names"]}

    def call(self, tensors, variant):
        return self.function(**tensors, normalize=variant.get("normalize", True))

    def reference(self, tensors, variant):
        return self.definition(**tensors, normalize=variant.get("normalize", True))

    def tolerances(self, dtype, tensors, variant, upstream):
        q, k, scale = tensors["image"], tensors["text"], tensors["logit_scale"]
        normalize, n = variant.get("normalize", True), len(q)
        per_row = upstream.expand(n) / (2 * n)
        pairs = torch.eye(n, dtype=torch.float64)
        rows, d_rows, terms = contrastive.softmax_rows(
            dtype, per_row, q, k, scale, pairs, normalize=normalize
        )
        columns, d_columns, terms_t = contrastive.softmax_rows(
            dtype, per_row, k, q, scale, pairs, normalize=normalize
        )
        value = (rows + columns).mean() / 2 + rounding.sum_error(dtype, n)
        gradients = {
            "image": d_rows["q"] + d_columns["k"],
            "text": d_rows["k"] + d_columns["q"],
            "logit_scale": d_rows["scale"] + d_columns["scale"],
            # Exactly zero here; the definition sums to zero but for its own rounding.
            "logit_bias": 1e-14 * (terms.sum() + terms_t.sum()),
        }
        return value, {name: gradients[name] for name in tensors}

    def operators(self, namespace):
        return []  # composed of the engine's operators


class TestSigLIP(TestCLIP):
    op = "siglip_loss"
    definition = staticmethod(siglip.reference)
    function = staticmethod(siglip_loss)
    variants: ClassVar = {
        "plain": {"names": ("image", "text", "logit_scale", "logit_bias")},
        "unnormalised": {
            "names": ("image", "text", "logit_scale", "logit_bias"),
            "normalize": False,
        },
    }

    def tolerances(self, dtype, tensors, variant, upstream):
        q, k, scale, bias = tensors.values()
        normalize, n = variant.get("normalize", True), len(q)
        zq, zk = contrastive.unit(q, normalize)[0], contrastive.unit(k, normalize)[0]
        sign = 2 * torch.eye(n, dtype=torch.float64) - 1
        signed = sign * (scale * zq @ zk.T + bias)
        logit = contrastive.logit_error(dtype, zq, zk, scale, bias)
        wrong = torch.sigmoid(-signed)
        loss = -torch.nn.functional.logsigmoid(signed)
        value = (wrong * logit * 2).sum() + rounding.sum_error(dtype, n * n) * loss.sum()
        terms = upstream.abs() * wrong / n
        gradients = contrastive.gradients(dtype, terms, q, k, scale, bias, normalize)
        out = {"image": gradients["q"], "text": gradients["k"], "logit_scale": gradients["scale"]}
        return value / n, out | {"logit_bias": gradients["bias"].sum()}

    def operators(self, namespace):
        samples = []
        for dtype in (torch.float32, torch.bfloat16):
            args = (*self.make(dtype, self.variants["plain"]).values(), 0, "mean", 0)
            samples.append((namespace.sigmoid_loss_forward.default, args))
            samples.append((namespace.sigmoid_loss_forward_backward.default, args))
        return samples
