"""What an operator's file tells the suite, and the list of operators."""

from __future__ import annotations

import importlib.util
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from benchmarks.case import FLOATS, Case
from benchmarks.errors import InputError
from benchmarks.exactness import Exactness

# What is timed: inputs in, the loss or another result out, a tensor or a tuple of them.
Function = Callable[..., Any]
FORWARD, BOTH = "forward", "forward+backward"
PRODUCTS, TRAFFIC = "flops", "bytes"
OURS = "ours"
EAGER = "eager"
COMPARED = (EAGER, "compile", "compile-dynamic")  # in summaries, of an operator not known here


@dataclass(frozen=True)
class Implementation:
    """One way to compute an operator: ours, or a baseline.

    `build(case)` returns the function to time; it takes the operator's inputs and returns the loss,
    or another result. It raises Unsuitable for a case that this one cannot do.
    `bytes_needed(case)` estimates its extra memory, so that a case which cannot fit is skipped
    instead of tried. `module` is what must be importable, `install` how to get it.
    `compiled` marks what compiles on the first call with a shape, `gpu_only` what has no way to
    run on a CPU, `full_only` what --quick leaves out: it takes long to compile or to load. A
    `yardstick` does some of the work and computes no loss: it is timed, and neither checked nor
    weighed, and its label says so. `processes` of its own hold memory that nobody sees: it is not
    weighed either. `note` is what a reader must know of it, `units` how many matrix products its
    forward + backward executes, counted in the operator's `unit`.
    """

    name: str
    label: str
    build: Callable[[Case], Function]
    bytes_needed: Callable[[Case], int]
    module: str | None = None
    install: str | None = None
    compiled: bool = False
    gpu_only: bool = False
    full_only: bool = False
    yardstick: bool = False
    processes: bool = False
    note: str = ""
    units: float | None = None

    @property
    def absent(self) -> str | None:
        """Which package is missing and how to get it, or None."""
        if self.module is None or importlib.util.find_spec(self.module) is not None:
            return None
        return f"{self.module} is not installed: {self.install}"

    def cannot_run(self, device: str) -> str | None:
        """Why it cannot run on `device` here, or None."""
        if self.gpu_only and torch.device(device).type == "cpu":
            return "needs a GPU, this case is on the CPU"
        return self.absent


class OpBenchmark(ABC):
    """What one operator's file provides, by a class of either kind below.

    `implementations` has ours and the dense eager one first; those two names are relied on.
    `compared` are the baselines that summaries show. `parameters` holds the default of every
    parameter that a case has besides its shape, `input_kinds` the names of the kinds of inputs,
    the first of which is timed, and `input_note` what they are; `data` has the names of the real
    rows that a case can have instead. `counts` says whether `work` is flops, held against the rate
    of matrix products, or bytes, held against that of a copy, and `work_note` in words which ones.
    `headline` is the mode that summaries show, `eager` the word for the eager baseline where its
    memory is the measure, `extras` what to install, `calls` our function where that has another
    name. Without `quick_memory` --quick weighs nothing.
    """

    name: str
    title: str
    shape_names: tuple[str, ...]
    parameters: ClassVar[Mapping[str, float]]
    implementations: tuple[Implementation, ...]
    compared: tuple[str, ...] = COMPARED
    input_kinds: tuple[str, ...]
    input_note: str
    work_note: str
    dtypes: tuple[str, ...] = FLOATS
    default_dtypes: tuple[str, ...] = ("bfloat16", "float32")
    counts: str = PRODUCTS
    headline: str = BOTH
    eager: str = "eager"
    extras: tuple[str, ...] = ("bench",)
    item: str = ""
    data: tuple[str, ...] = ()
    calls: str = ""
    quick_memory: bool = True

    @abstractmethod
    def grid(self, quick: bool) -> list[Case]:
        """The default cases, without device and threads."""

    @abstractmethod
    def check(self, shape: tuple[int, ...], parameters: Mapping[str, float]) -> None:
        """InputError, naming the option, for a shape or parameter that makes no case."""

    def check_data(self, shape: tuple[int, ...], data: str) -> None:
        """InputError when there are no such rows, or none of this shape."""
        if data not in self.data:
            known = ", ".join(self.data) or "none"
            raise InputError(f"--data: of {self.name} wanted one of {known}, got {data!r}")

    @abstractmethod
    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """Leaf tensors on the case's device; what requires a gradient has the case's dtype."""

    @abstractmethod
    def work(self, case: Case, mode: str) -> float:
        """Useful flops or bytes of one call, as `work_note` counts them."""

    @abstractmethod
    def small(self, case: Case) -> Case:
        """A small case of the same kind: running it touches the code, but no large buffer."""

    def unit(self, case: Case) -> float | None:
        """Flops of the matrix product that `units` of the implementations count, if they do."""
        return None

    def kinds(self, case: Case) -> tuple[str, ...]:
        """The kinds of inputs of a case; the first is timed."""
        return (case.data,) if case.data else self.input_kinds

    def modes(self, case: Case) -> tuple[str, ...]:
        """What is timed of a case."""
        return (FORWARD, BOTH)

    def upstream(self, case: Case) -> Tensor | None:
        """The gradient of the result; None for a loss."""
        return None

    def items(self, case: Case) -> int | None:
        """How many of `item` a call makes, where that has a name."""
        return None

    def cases(
        self,
        shapes: Sequence[tuple[int, ...]],
        kinds: Sequence[tuple[str, str]],
        parameters: Mapping[str, float] | None = None,
        data: str = "",
    ) -> list[Case]:
        """Every shape in every (dtype, precision) of `kinds`; InputError where `check` objects."""
        values = dict(self.parameters) | dict(parameters or {})
        for shape in shapes:
            self.check(shape, values)
            if data:
                self.check_data(shape, data)
        return [
            Case(self.name, shape, dtype, precision, parameters=values, data=data)
            for shape in shapes
            for dtype, precision in kinds
        ]

    def implementation(self, name: str) -> Implementation:
        """The implementation called `name`; KeyError when there is none."""
        return {one.name: one for one in self.implementations}[name]


class LossBenchmark(OpBenchmark):
    """An operator whose result is a loss, which all implementations must agree on."""

    @abstractmethod
    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradients in float64, by code that shares nothing with what is measured."""


class RandomBenchmark(OpBenchmark):
    """An operator of which no two calls agree."""

    @abstractmethod
    def exactness(self, case: Case) -> list[Exactness]:
        """How far everyone is from the truth where all are given the same draws."""


def operators() -> dict[str, OpBenchmark]:
    """Every benchmarked operator by name."""
    from benchmarks.augment import Augment
    from benchmarks.clip_loss import ClipLoss
    from benchmarks.dcl import DCL
    from benchmarks.info_nce import InfoNCE
    from benchmarks.linear_cross_entropy import LinearCrossEntropy
    from benchmarks.nt_xent import NTXent
    from benchmarks.retrieval import Retrieval
    from benchmarks.siglip_loss import SigLIPLoss
    from benchmarks.supcon import SupCon

    # Without --op a shape goes to the first that has as many sizes.
    language, views = (LinearCrossEntropy(), Augment())
    contrastive = (DCL(), InfoNCE(), Retrieval(), ClipLoss(), SigLIPLoss(), SupCon())
    return {op.name: op for op in (NTXent(), language, views, *contrastive)}


def operator(name: str) -> OpBenchmark:
    """The operator called `name`; InputError when there is none."""
    known = operators()
    if name not in known:
        raise InputError(f"--op: got {name!r}, wanted one of {', '.join(known)}")
    return known[name]


def compared(op: str) -> tuple[str, ...]:
    """The baselines in the summary of `op`, also when the suite no longer has that operator."""
    known = operators()
    return known[op].compared if op in known else COMPARED


def headline(op: str) -> str:
    """The mode in the summary of `op`, also when the suite no longer has that operator."""
    known = operators()
    return known[op].headline if op in known else BOTH


def eager_word(op: str) -> str:
    """The word for the eager baseline of `op`."""
    known = operators()
    return known[op].eager if op in known else "eager"


def label(op: str, name: str) -> str:
    """An implementation's name for people; the name itself when the suite no longer has it."""
    known = operators()
    implementations = known[op].implementations if op in known else ()
    return next((one.label for one in implementations if one.name == name), name)


def loss_and_gradients(
    function: Function, inputs: tuple[Tensor, ...], upstream: Tensor | None = None
) -> tuple[Any, tuple[Tensor, ...]]:
    """One training step's worth of work: the loss, and the gradients of the `trained` inputs.

    A result that is no loss takes the gradient `upstream`, a tuple its slices.
    """
    result = function(*inputs)
    leaves = trained(inputs)
    if not leaves:
        return result, ()
    if upstream is not None and not isinstance(result, Tensor):
        return result, torch.autograd.grad(result, leaves, upstream.unbind(0))
    return result, torch.autograd.grad(result, leaves, upstream)


def trained(inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    """The inputs that take a gradient: class indices, for one, do not."""
    return tuple(one for one in inputs if one.requires_grad)
