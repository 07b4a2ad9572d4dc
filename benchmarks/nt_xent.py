"""NT-Xent: the grid, the inputs, the baselines and the float64 truth."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.errors import InputError
from benchmarks.registry import BOTH, EAGER, OURS, Function, Implementation

BLOCK_ROWS = 1024


def eager_nt_xent(z1: Tensor, z2: Tensor, temperature: float, decoupled: bool = False) -> Tensor:
    """The loss as a SimCLR user writes it: dense, in the dtype of the inputs."""
    n = z1.shape[0]
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = z @ z.T / temperature
    itself = torch.eye(2 * n, dtype=torch.bool, device=z.device)
    logits = logits.masked_fill(itself, float("-inf"))
    positive = torch.arange(2 * n, device=z.device).roll(n)
    if not decoupled:
        return F.cross_entropy(logits, positive)
    own = logits.gather(1, positive[:, None])
    negatives = logits.scatter(1, positive[:, None], float("-inf"))
    return (negatives.logsumexp(1) - own[:, 0]).mean()


def exact_nt_xent(
    z1: Tensor, z2: Tensor, temperature: float, decoupled: bool = False
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """Loss and gradients of the inputs in float64, a block of rows at a time."""
    x1 = z1.detach().cpu().double().requires_grad_()
    x2 = z2.detach().cpu().double().requires_grad_()
    x = torch.cat([x1, x2])
    z = x / x.norm(dim=1, keepdim=True).clamp_min(1e-12)
    leaf = z.detach().requires_grad_()
    rows = leaf.shape[0]
    loss = torch.zeros((), dtype=torch.float64)
    for start in range(0, rows, BLOCK_ROWS):
        index = torch.arange(start, min(start + BLOCK_ROWS, rows))
        similarity = leaf[index] @ leaf.T / temperature
        positive = similarity[index - start, (index + rows // 2) % rows]
        left_out = index[:, None] == torch.arange(rows)
        if decoupled:
            left_out |= (index[:, None] + rows // 2) % rows == torch.arange(rows)
        others = similarity.masked_fill(left_out, float("-inf"))
        part = (others.logsumexp(1) - positive).sum() / rows
        part.backward()
        loss += part.detach()
    gradients = torch.autograd.grad(z, (x1, x2), leaf.grad)
    return loss, (gradients[0], gradients[1])


def _build_ours(case: Case) -> Function:
    from sslkernels import nt_xent

    temperature = case.parameters["temperature"]

    def ours(z1: Tensor, z2: Tensor) -> Tensor:
        return nt_xent(z1, z2, temperature)

    return ours


def _build_eager(case: Case) -> Function:
    temperature = case.parameters["temperature"]

    def eager(z1: Tensor, z2: Tensor) -> Tensor:
        return eager_nt_xent(z1, z2, temperature)

    return eager


def _build_compiled(case: Case, dynamic: bool = False) -> Function:
    # Otherwise the recompile limit of the cases before this one would end the run.
    torch.compiler.reset()
    return torch.compile(_build_eager(case), fullgraph=True, dynamic=dynamic)


def _build_compiled_dynamic(case: Case) -> Function:
    # Static shapes are what a training loop gets, but their kernels are not always the faster ones.
    return _build_compiled(case, dynamic=True)


def _build_lightly(case: Case) -> Function:
    from lightly.loss import NTXentLoss

    return NTXentLoss(
        temperature=case.parameters["temperature"], memory_bank_size=0, gather_distributed=False
    )


def _build_metric_learning(case: Case) -> Function:
    from pytorch_metric_learning.losses import NTXentLoss

    loss = NTXentLoss(temperature=case.parameters["temperature"])

    def metric_learning(z1: Tensor, z2: Tensor) -> Tensor:
        labels = torch.arange(z1.shape[0], device=z1.device).repeat(2)
        return loss(torch.cat([z1, z2]), labels)

    return metric_learning


def _linear_bytes(case: Case) -> int:
    rows, dim = case.shape
    return 8 * rows * (dim + 16) * 4


def _dense_bytes(case: Case) -> int:
    """Logits, log-probabilities and the gradient of one of them, with the boolean mask."""
    rows, _ = case.shape
    return rows * rows * (3 * case.torch_dtype.itemsize + 1)


def _pair_bytes(case: Case) -> int:
    """pytorch-metric-learning crosses every positive pair with every negative pair: cubic."""
    rows, _ = case.shape
    return rows * rows * max(rows - 2, 1) * (4 * case.torch_dtype.itemsize + 1)


class NTXent(Contrastive):
    """Symmetric contrastive loss over M = 2N rows of D features; shapes are (2N, D)."""

    name = "nt_xent"
    title = "NT-Xent (SimCLR)"
    shape_names = ("2N", "D")
    input_note = "correlated views are z2 = z1 + 0.5 noise, independent ones share nothing"
    work_note = (
        "With M = 2N, one full product of M x D by D x M is 2 M^2 D flops. A symmetric algorithm "
        "needs half of one for the forward (M^2 D) and two of them for forward + backward "
        "(4 M^2 D): that is what is counted, for every implementation alike. The dense baselines "
        "execute three products for forward + backward, so their hardware rate is higher than "
        "what stands here; exponentials and passes over the logits count as nothing."
    )
    useful: ClassVar[Mapping[str, float]] = {"forward": 0.5, BOTH: 2.0}
    quick_memory = True
    implementations = (
        Implementation(OURS, "sslkernels", _build_ours, _linear_bytes),
        Implementation(EAGER, "eager PyTorch", _build_eager, _dense_bytes),
        Implementation("compile", "torch.compile", _build_compiled, _dense_bytes, compiled=True),
        Implementation(
            "compile-dynamic",
            "torch.compile, dynamic shapes",
            _build_compiled_dynamic,
            _dense_bytes,
            compiled=True,
        ),
        Implementation(
            "lightly", "lightly", _build_lightly, _dense_bytes, "lightly", "pip install lightly"
        ),
        Implementation(
            "metric-learning",
            "pytorch-metric-learning",
            _build_metric_learning,
            _pair_bytes,
            "pytorch_metric_learning",
            "pip install pytorch-metric-learning",
        ),
    )

    def grid(self, quick: bool) -> list[Case]:
        """Shapes around a SimCLR batch; --quick keeps what two cores finish in minutes."""
        if quick:
            timed = [
                *self.cases([(64, 32)], KINDS[1:2]),
                *self.cases([(512, 128)], KINDS[:2]),
                *self.cases([(2048, 128)], KINDS),
            ]
            return timed + self.memory_cases([(8192, 128)], KINDS[1:2])
        shapes = [(512, 128), (2048, 128), (4096, 128), (8192, 128), (4096, 512)]
        timed = self.cases([(64, 32)], KINDS[1:2])
        timed += self.cases(shapes, KINDS)
        return timed + self.memory_cases([(16384, 128), (65536, 128)], KINDS[:2])

    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """2N must be even, the temperature above 0."""
        super().check(shape, parameters)
        if shape[0] % 2:
            raise InputError(f"--shape: 2N must be even (two views of N), got {shape[0]}")

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """(z1, z2), each [N, D]: normal rows, and their noisy copy or an independent draw."""
        rows, dim = case.shape
        z1, z2 = contrastive.paired_rows(kind, rows // 2, dim, seed)
        return contrastive.leaf(case, z1), contrastive.leaf(case, z2)

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64 on the CPU, of the inputs as rounded to the dtype."""
        return exact_nt_xent(inputs[0], inputs[1], case.parameters["temperature"])
