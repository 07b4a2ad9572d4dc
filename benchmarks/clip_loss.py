"""CLIP's loss: the grid, the inputs, the baselines and the float64 truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive, contrastive_rivals
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.registry import EAGER, Function, Implementation


def eager_clip_loss(image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
    """The loss as CLIP's authors write it: one matrix of logits, read in both directions."""
    logits = scale * F.normalize(image, dim=1) @ F.normalize(text, dim=1).T
    target = torch.arange(len(image), device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


def _build_ours(case: Case) -> Function:
    from sslkernels import clip_loss

    return clip_loss


def _build_eager(case: Case) -> Function:
    return eager_clip_loss


class ClipLoss(Contrastive):
    """Both cross entropies of N pairs of D features; shapes are (N, D)."""

    name = "clip_loss"
    title = "CLIP's loss"
    shape_names = ("N", "D")
    parameters: ClassVar[Mapping[str, float]] = {"temperature": 0.07}
    input_note = (
        "correlated towers are text = image + 1.5 noise, independent ones share nothing; the "
        "scale, 1 / temperature, takes a gradient"
    )
    work_note = (
        "One product is 2 N^2 D flops. The forward needs one and forward + backward three "
        "(6 N^2 D): that is what is counted, for every implementation alike."
    )
    compared = (EAGER, "compile", "compile-dynamic", "open-clip")
    extras = ("bench", "rivals")
    quick_memory = True
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=4),
        *contrastive.dense(_build_eager, contrastive.square_bytes(6), units=3),
        Implementation(
            "open-clip",
            "open_clip",
            contrastive_rivals.build_clip,
            contrastive.square_bytes(8),
            "open_clip",
            "pip install open_clip_torch",
            full_only=True,
            units=6,
            note="its ClipLoss; local_loss is the same code where there is one process",
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """CLIP's width, memory against the batch, and real rows."""
        if quick:
            return self.cases([(512, 128)], KINDS[1:2])
        weighed = [(1024, 512), (2048, 512), (8192, 512), (16384, 512)]
        timed = self.cases([(4096, 512)], KINDS)
        timed += self.real_cases([(4096, 512)], KINDS[:2], "digits")
        return timed + self.memory_cases(weighed, KINDS[:2])

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """image and text [N, D], and the scale, 0-dim."""
        image, text = contrastive.towers(case, kind, seed)
        scale = contrastive.number(case, 1.0 / case.parameters["temperature"])
        return image, text, scale

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        count = case.shape[0]

        def part(index: Tensor, image: Tensor, text: Tensor, scale: Tensor) -> Tensor:
            by_image = F.cross_entropy(scale * image[index] @ text.T, index, reduction="sum")
            by_text = F.cross_entropy(scale * text[index] @ image.T, index, reduction="sum")
            return (by_image + by_text) / (2 * count)

        return contrastive.exact_in_blocks(inputs, 2, count, part)
