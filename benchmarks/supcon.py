"""SupCon: the grid, the inputs, the baselines and the float64 truth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive, contrastive_rivals, real
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.errors import InputError
from benchmarks.registry import BOTH, EAGER, Function, Implementation

REAL_CLASSES = 10


def eager_supcon(z: Tensor, labels: Tensor, temperature: float) -> Tensor:
    """The loss of SupCon's authors: all logits, and a mask of the pairs of one class."""
    z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    itself = torch.eye(len(z), dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~itself
    lse = logits.masked_fill(itself, float("-inf")).logsumexp(1)
    others = positive.sum(1)
    mean = logits.masked_fill(~positive, 0.0).sum(1) / others.clamp_min(1)
    return ((lse - mean) * (others > 0)).sum() / (others > 0).sum()


def _build_ours(case: Case) -> Function:
    from sslkernels import supcon

    return partial(supcon, temperature=case.parameters["temperature"])


def _build_eager(case: Case) -> Function:
    return partial(eager_supcon, temperature=case.parameters["temperature"])


class SupCon(Contrastive):
    """Supervised contrastive loss of M views of so many classes; shapes are (M, classes, D)."""

    name = "supcon"
    title = "SupCon"
    shape_names = ("views", "classes", "D")
    data = real.IMAGES
    input_kinds = ("clustered", "independent")
    input_note = "clustered views are class centre + noise, independent ones know no class"
    work_note = (
        "With M views one full product is 2 M^2 D flops. A symmetric algorithm needs half of one "
        "for the forward (M^2 D) and two of them for forward + backward (4 M^2 D): that is what is "
        "counted, for every implementation alike."
    )
    useful: ClassVar[Mapping[str, float]] = {"forward": 0.5, BOTH: 2.0}
    compared = (EAGER, "compile", "compile-dynamic", "metric-learning")
    quick_memory = True
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=2),
        *contrastive.dense(_build_eager, contrastive.square_bytes(7), units=3),
        Implementation(
            "metric-learning",
            "pytorch-metric-learning",
            contrastive_rivals.build_supcon,
            contrastive.square_bytes(14),
            "pytorch_metric_learning",
            "pip install pytorch-metric-learning",
            units=3,
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """Ten classes, memory against the batch, and real rows."""
        if quick:
            return [
                *self.cases([(512, 10, 128)], KINDS[1:2]),
                *self.real_cases([(512, 10, 128)], KINDS[1:2], "digits"),
            ]
        weighed = [(1024, 10, 128), (2048, 10, 128), (8192, 10, 128), (16384, 10, 128)]
        timed = self.cases([(4096, 10, 128)], KINDS)
        for data in real.IMAGES:
            timed += self.real_cases([(4096, 10, 128)], KINDS[:2], data)
        return timed + self.memory_cases(weighed, KINDS[:2])

    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """An even number of views, at most half as many classes; the temperature above 0."""
        super().check(shape, parameters)
        views, classes, _ = shape
        if views % 2 or classes > views // 2:
            raise InputError(
                f"--shape: views must be even and at least twice the classes, got {views} and "
                f"{classes}"
            )

    def check_data(self, shape: tuple[int, ...], data: str) -> None:
        """InputError when there are no such rows here, or of another number of classes."""
        super().check_data(shape, data)
        if shape[1] != REAL_CLASSES:
            raise InputError(f"--data: {data} has {REAL_CLASSES} classes, got {shape[1]}")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """z [M, D], and int64 labels [M]: the two halves are views of the same samples."""
        views, classes, dim = case.shape
        if kind in real.DATA:
            pairs = real.pairs(kind, views // 2, dim, seed)
            z, labels = torch.cat([pairs.first, pairs.second]), pairs.labels
        else:
            generator = torch.Generator().manual_seed(seed)
            z = torch.randn(views, dim, generator=generator)
            labels = torch.arange(views // 2) % classes
            centres = torch.randn(classes, dim, generator=generator)
            z = z + centres[labels.repeat(2)] if kind == "clustered" else z
        return contrastive.leaf(case, z), labels.repeat(2).to(case.device)

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradient in float64 on the CPU, of the inputs as rounded to the dtype."""
        count, temperature = case.shape[0], case.parameters["temperature"]

        def part(index: Tensor, z: Tensor, labels: Tensor) -> Tensor:
            logits = z[index] @ z.T / temperature
            itself = index[:, None] == torch.arange(count)
            positive = (labels[index, None] == labels).double().masked_fill(itself, 0.0)
            lse = logits.masked_fill(itself, float("-inf")).logsumexp(1)
            # Every class has both views of a sample: all rows count.
            return (lse - (positive * logits).sum(1) / positive.sum(1)).sum() / count

        return contrastive.exact_in_blocks(inputs, 1, count, part)

    def small(self, case: Case) -> Case:
        """The same features and classes on few rows."""
        small = super().small(case)
        return small if small.shape[0] >= 2 * small.shape[1] else case
