"""What the contrastive losses share: kinds, rows, dense baselines, the float64 truth."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks import real
from benchmarks.case import Case
from benchmarks.errors import InputError
from benchmarks.registry import BOTH, EAGER, OURS, Function, Implementation, LossBenchmark

KINDS = [("bfloat16", "highest"), ("float32", "highest"), ("float32", "high")]
BLOCK_ROWS = 1024
# Closer towers, at the temperatures that they are trained with, would have no loss left.
TOWERS_NOISE = 1.5


def dense(
    build: Callable[[Case], Function], bytes_needed: Callable[[Case], int], units: float
) -> tuple[Implementation, ...]:
    """The eager baseline that `build` makes, and what torch.compile makes of it."""
    compiled = partial(_compiled, build)
    return (
        Implementation(EAGER, "eager PyTorch", build, bytes_needed, units=units),
        Implementation(
            "compile",
            "torch.compile",
            partial(compiled, dynamic=False),
            bytes_needed,
            compiled=True,
            full_only=True,
            units=units,
        ),
        Implementation(
            "compile-dynamic",
            "torch.compile, dynamic shapes",
            partial(compiled, dynamic=True),
            bytes_needed,
            compiled=True,
            full_only=True,
            units=units,
        ),
    )


def ours(
    build: Callable[[Case], Function], bytes_needed: Callable[[Case], int], units: float
) -> Implementation:
    """Our implementation; `units` as its docstring says."""
    return Implementation(OURS, "sslkernels", build, bytes_needed, units=units)


def paired_rows(
    kind: str, count: int, dim: int, seed: int, noise: float = 0.5
) -> tuple[Tensor, Tensor]:
    """Two float32 tensors [count, dim] whose rows belong together, as `kind` says."""
    if kind in real.DATA:
        pairs = real.pairs(kind, count, dim, seed)
        return pairs.first, pairs.second
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(count, dim, generator=generator)
    second = torch.randn(count, dim, generator=generator)
    return first, first + noise * second if kind == "correlated" else second


def towers(case: Case, kind: str, seed: int) -> tuple[Tensor, Tensor]:
    """Leaves of two encoders [N, D]; "correlated" ones are the first + TOWERS_NOISE noise."""
    count, dim = case.shape
    first, second = paired_rows(kind, count, dim, seed, TOWERS_NOISE)
    return leaf(case, first), leaf(case, second)


def leaf(case: Case, rows: Tensor) -> Tensor:
    """The rows in the case's dtype, on its device, with a gradient."""
    return rows.to(case.device, case.torch_dtype).requires_grad_()


def number(case: Case, value: float) -> Tensor:
    """A learnt number, which stays in float32 where the rows are of 16 bits."""
    dtype = torch.float64 if case.dtype == "float64" else torch.float32
    return torch.tensor(value, dtype=dtype, device=case.device, requires_grad=True)


def exact_in_blocks(
    inputs: tuple[Tensor, ...], unit: int, count: int, part: Callable[..., Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """Loss and gradients in float64, a block of rows at a time.

    The first `unit` of the inputs are divided by the norms of their rows. `part(index, *inputs)` is
    what the rows `index` of `count` add to the loss.
    """
    given = [
        one.detach().cpu().double().requires_grad_(one.requires_grad)
        if one.is_floating_point()
        else one.cpu()
        for one in inputs
    ]
    rows = [
        x / x.norm(dim=1, keepdim=True).clamp_min(1e-12) if i < unit else x
        for i, x in enumerate(given)
    ]
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in rows]
    loss = torch.zeros((), dtype=torch.float64)
    for index in torch.arange(count).split(BLOCK_ROWS):
        share = part(index, *leaves)
        share.backward()
        loss += share.detach()
    trained = [i for i, x in enumerate(given) if x.requires_grad]
    gradients: Any = torch.autograd.grad(
        [rows[i] for i in trained], [given[i] for i in trained], [leaves[i].grad for i in trained]
    )
    return loss, gradients


class Contrastive(LossBenchmark):
    """A loss of matrix products between rows; `useful` has the products that count.

    `rows_and_columns(case)` says how many logits there are.
    """

    parameters: ClassVar[Mapping[str, float]] = {"temperature": 0.1}
    input_kinds = ("correlated", "independent")
    data = real.DATA
    quick_memory = False
    useful: ClassVar[Mapping[str, float]] = {"forward": 1.0, BOTH: 3.0}

    def rows_and_columns(self, case: Case) -> tuple[int, int]:
        """How many rows of logits, and how many in each."""
        return case.shape[0], case.shape[0]

    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """The temperature must be above 0."""
        if not parameters["temperature"] > 0:
            raise InputError(f"--temperature: must be above 0, got {parameters['temperature']}")

    def check_data(self, shape: tuple[int, ...], data: str) -> None:
        """InputError when there are no such rows here, or none of this many features."""
        super().check_data(shape, data)
        if reason := real.why_not(data, shape[0], shape[-1]):
            raise InputError(f"--data: {data}: {reason}")

    def unit(self, case: Case) -> float:
        """Flops of one product: of all logits, or of as many numbers."""
        rows, columns = self.rows_and_columns(case)
        return 2.0 * rows * columns * case.shape[-1]

    def work(self, case: Case, mode: str) -> float:
        """As `work_note` says."""
        return self.useful[mode] * self.unit(case)

    def small(self, case: Case) -> Case:
        """The same features on at most 128 rows."""
        return replace(case, shape=(min(case.shape[0], 128), *case.shape[1:]))

    def memory_cases(
        self, shapes: list[tuple[int, ...]], kinds: list[tuple[str, str]]
    ) -> list[Case]:
        """Cases that are weighed and not timed."""
        return [replace(case, memory_only=True) for case in self.cases(shapes, kinds)]

    def real_cases(
        self, shapes: list[tuple[int, ...]], kinds: list[tuple[str, str]], data: str
    ) -> list[Case]:
        """Cases on real rows, those of which there are any here."""
        found = [shape for shape in shapes if not real.why_not(data, shape[0], shape[-1])]
        return self.cases(found, kinds, data=data)


def linear_bytes(case: Case) -> int:
    """A few copies of the rows, in float32."""
    return 8 * sum(case.shape[:-1]) * (case.shape[-1] + 16) * 4


def square_bytes(copies: float) -> Callable[[Case], int]:
    """As many matrices of logits, of as many rows as columns."""

    def needed(case: Case) -> int:
        return int(case.shape[0] ** 2 * copies * case.torch_dtype.itemsize)

    return needed


def _compiled(build: Callable[[Case], Function], case: Case, dynamic: bool) -> Function:
    # Otherwise the recompile limit of the cases before this one would end the run.
    torch.compiler.reset()
    return torch.compile(build(case), fullgraph=True, dynamic=dynamic)
