"""Retrieval with in-batch negatives: the grid, the inputs, the baselines and the float64 truth."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive, contrastive_rivals
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.registry import EAGER, Function, Implementation


def eager_retrieval(query: Tensor, document: Tensor, temperature: float) -> Tensor:
    """Cross entropy of each query's own document among those of the batch."""
    logits = F.normalize(query, dim=1) @ F.normalize(document, dim=1).T / temperature
    return F.cross_entropy(logits, torch.arange(len(query), device=query.device))


def _build_ours(case: Case) -> Function:
    from sslkernels import info_nce

    return partial(info_nce, temperature=case.parameters["temperature"])


def _build_eager(case: Case) -> Function:
    return partial(eager_retrieval, temperature=case.parameters["temperature"])


class Retrieval(Contrastive):
    """InfoNCE of N queries and their N documents of D features; shapes are (N, D)."""

    name = "retrieval"
    title = "InfoNCE in the batch (retrieval, two towers)"
    calls = "info_nce"
    shape_names = ("N", "D")
    parameters: ClassVar[Mapping[str, float]] = {"temperature": 0.05}
    input_note = (
        "correlated documents are query + 1.5 noise, independent ones share nothing with it"
    )
    work_note = (
        "One product is 2 N^2 D flops. The forward needs one and forward + backward three "
        "(6 N^2 D): that is what is counted, for every implementation alike."
    )
    compared = (EAGER, "compile", "compile-dynamic", "sentence-transformers")
    extras = ("bench", "rivals")
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=4),
        *contrastive.dense(_build_eager, contrastive.square_bytes(4), units=3),
        Implementation(
            "sentence-transformers",
            "sentence-transformers",
            contrastive_rivals.build_ranking,
            contrastive.square_bytes(6),
            "sentence_transformers",
            "pip install sentence-transformers",
            full_only=True,
            units=3,
            note="its MultipleNegativesRankingLoss, given embeddings",
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """The width of a small sentence encoder, on random rows, digits and sentences."""
        if quick:
            return self.cases([(512, 128)], KINDS[1:2])
        timed = self.cases([(4096, 384)], KINDS)
        timed += self.real_cases([(4096, 384)], KINDS[:2], "digits")
        return timed + self.real_cases([(2048, 384)], KINDS[:2], "sentences")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """query and document, [N, D]."""
        return contrastive.towers(case, kind, seed)

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        count, temperature = case.shape[0], case.parameters["temperature"]

        def part(index: Tensor, query: Tensor, document: Tensor) -> Tensor:
            logits = query[index] @ document.T / temperature
            return F.cross_entropy(logits, index, reduction="sum") / count

        return contrastive.exact_in_blocks(inputs, 2, count, part)
