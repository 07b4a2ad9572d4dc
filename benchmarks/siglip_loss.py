"""SigLIP's loss: the grid, the inputs, the baselines and the float64 truth."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive, contrastive_rivals
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.registry import EAGER, Function, Implementation

BIAS = -10.0


def eager_siglip_loss(image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
    """The loss as the paper's listing has it: all logits, their labels, log-sigmoid."""
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T + bias
    labels = 2 * torch.eye(len(image), device=image.device, dtype=logits.dtype) - 1
    return -F.logsigmoid(labels * logits).sum() / len(image)


def _build_ours(case: Case) -> Function:
    from sslkernels import siglip_loss

    return siglip_loss


def _build_eager(case: Case) -> Function:
    return eager_siglip_loss


class SigLIPLoss(Contrastive):
    """The sigmoid loss of N pairs of D features; shapes are (N, D)."""

    name = "siglip_loss"
    title = "SigLIP's loss"
    shape_names = ("N", "D")
    input_note = (
        "correlated towers are text = image + 1.5 noise, independent ones share nothing; the "
        f"scale, 1 / temperature, and the bias, {BIAS:g}, take a gradient"
    )
    work_note = (
        "One product is 2 N^2 D flops. The forward needs one and forward + backward three "
        "(6 N^2 D): that is what is counted, for every implementation alike."
    )
    compared = (EAGER, "compile", "compile-dynamic", "open-clip")
    extras = ("bench", "rivals")
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=3),
        *contrastive.dense(_build_eager, contrastive.square_bytes(6), units=3),
        Implementation(
            "open-clip",
            "open_clip",
            contrastive_rivals.build_siglip,
            contrastive.square_bytes(8),
            "open_clip",
            "pip install open_clip_torch",
            full_only=True,
            units=3,
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """CLIP's width, and real rows."""
        if quick:
            return self.cases([(512, 128)], KINDS[1:2])
        timed = self.cases([(4096, 512)], KINDS)
        return timed + self.real_cases([(4096, 512)], KINDS[:2], "digits")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """image and text [N, D], the scale and the bias, 0-dim."""
        image, text = contrastive.towers(case, kind, seed)
        scale = contrastive.number(case, 1.0 / case.parameters["temperature"])
        bias = contrastive.number(case, BIAS)
        return image, text, scale, bias

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        count = case.shape[0]

        def part(index: Tensor, image: Tensor, text: Tensor, scale: Tensor, bias: Tensor) -> Tensor:
            logits = scale * image[index] @ text.T + bias
            own = index[:, None] == torch.arange(count)
            return -F.logsigmoid(torch.where(own, logits, -logits)).sum() / count

        return contrastive.exact_in_blocks(inputs, 2, count, part)
