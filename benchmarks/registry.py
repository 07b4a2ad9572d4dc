"""What an operator's file tells the suite, and the list of operators."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.errors import InputError

Function = Callable[..., Tensor]
OURS = "ours"
EAGER = "eager"
COMPARED = (EAGER, "compile", "compile-dynamic")  # in summaries


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator: ours, or a baseline.

    `build(case)` returns the function to time; it takes the operator's inputs and returns the loss.
    `bytes_needed(case)` estimates its extra memory, so that a case which cannot fit is skipped
    instead of tried. `module` is what must be importable, `install` how to get it.
    `compiled` marks what compiles on the first call with a shape.
    """

    name: str
    label: str
    build: Callable[[Case], Function]
    bytes_needed: Callable[[Case], int]
    module: str | None = None
    install: str | None = None
    compiled: bool = False

    @property
    def absent(self) -> str | None:
        """Why it cannot run here and how to get it, or None."""
        if self.module is None or importlib.util.find_spec(self.module) is not None:
            return None
        return f"{self.module} is not installed: {self.install}"


class OpBenchmark(ABC):
    """What one operator's file provides.

    `implementations` has ours and the dense eager one first; those two names are relied on.
    `work_note` says in words which flops `flops` counts.
    """

    name: str
    title: str
    shape_names: tuple[str, ...]
    implementations: tuple[Implementation, ...]
    view_kinds: tuple[str, ...]
    work_note: str

    @abstractmethod
    def grid(self, quick: bool) -> list[Case]:
        """The default cases, without device and threads."""

    @abstractmethod
    def cases(
        self,
        shapes: list[tuple[int, ...]],
        kinds: list[tuple[str, str]],
        temperature: float | None = None,
    ) -> list[Case]:
        """Cases for given shapes, each in every (dtype, precision) of `kinds`."""

    @abstractmethod
    def inputs(self, case: Case, views: str, seed: int = 0) -> tuple[Tensor, ...]:
        """Leaf tensors that require a gradient, on the case's device and in its dtype."""

    @abstractmethod
    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64, by code that shares nothing with what is measured."""

    @abstractmethod
    def flops(self, case: Case, mode: str) -> float:
        """Useful flops of one call, as `work_note` counts them."""

    @abstractmethod
    def small(self, case: Case) -> Case:
        """A small case of the same kind: running it touches the code, but no large buffer."""

    def implementation(self, name: str) -> Implementation:
        """The implementation called `name`; KeyError when there is none."""
        return {one.name: one for one in self.implementations}[name]


def operators() -> dict[str, OpBenchmark]:
    """Every benchmarked operator by name."""
    from benchmarks.nt_xent import NTXent

    return {op.name: op for op in (NTXent(),)}


def operator(name: str) -> OpBenchmark:
    """The operator called `name`; InputError when there is none."""
    known = operators()
    if name not in known:
        raise InputError(f"--op: got {name!r}, wanted one of {', '.join(known)}")
    return known[name]


def loss_and_gradients(
    function: Function, inputs: tuple[Tensor, ...]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """One training step's worth of work: the loss and the gradient of every input."""
    loss = function(*inputs)
    return loss, torch.autograd.grad(loss, inputs)
