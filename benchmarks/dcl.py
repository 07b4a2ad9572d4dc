"""NT-Xent without the positive in the sum (DCL): the baselines, on NT-Xent's inputs."""

from __future__ import annotations

from functools import partial

from torch import Tensor

from benchmarks import contrastive, contrastive_rivals
from benchmarks.case import Case
from benchmarks.contrastive import KINDS
from benchmarks.nt_xent import NTXent, eager_nt_xent, exact_nt_xent
from benchmarks.registry import EAGER, Function, Implementation


def _build_ours(case: Case) -> Function:
    from sslkernels import nt_xent

    return partial(nt_xent, temperature=case.parameters["temperature"], decoupled=True)


def _build_eager(case: Case) -> Function:
    return partial(eager_nt_xent, temperature=case.parameters["temperature"], decoupled=True)


class DCL(NTXent):
    """Decoupled contrastive loss over M = 2N rows of D features; shapes are (2N, D)."""

    name = "dcl"
    title = "decoupled NT-Xent (DCL)"
    calls = "nt_xent"
    quick_memory = False
    compared = (EAGER, "compile", "compile-dynamic", "lightly")
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=2),
        *contrastive.dense(_build_eager, contrastive.square_bytes(6), units=3),
        Implementation(
            "lightly",
            "lightly",
            contrastive_rivals.build_dcl,
            contrastive.square_bytes(6),
            "lightly",
            "pip install lightly",
            units=3,
            note="its DCLLoss",
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """One of NT-Xent's shapes."""
        return self.cases([(512, 128)], KINDS[1:2]) if quick else self.cases([(4096, 128)], KINDS)

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        return exact_nt_xent(inputs[0], inputs[1], case.parameters["temperature"], decoupled=True)
