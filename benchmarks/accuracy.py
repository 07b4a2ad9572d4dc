"""Errors against float64, and the check that a baseline computes the same loss at all."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.case import Case
from benchmarks.registry import Function, loss_and_gradients

# Far above rounding, far below what a different loss would show.
SAME_LOSS = {
    "bfloat16": 5e-2,
    "float16": 2e-2,
    "float32 highest": 1e-4,
    "float32 high": 1e-3,
    "float32 medium": 5e-2,
    "float64": 1e-9,
}

Truth = tuple[Tensor, tuple[Tensor, ...]]


@dataclass(frozen=True)
class Error:
    """Relative error of the loss and relative Frobenius error of all gradients together.

    `inputs` is the kind of inputs, one of the operator's `input_kinds` or the name of real data.
    Gradients of single numbers, such as a learnt scale, would hide the others or be hidden by
    them: `scalars` is their largest relative error, apart from `gradient`.
    """

    implementation: str
    inputs: str
    loss: float
    gradient: float
    scalars: float | None = None


def error_of(
    name: str, function: Function, inputs: tuple[Tensor, ...], truth: Truth, kind: str
) -> Error:
    """Compare one forward + backward of `function` with the float64 `truth`."""
    exact_loss, exact_gradients = truth
    loss, gradients = loss_and_gradients(function, inputs)
    pairs = list(zip(gradients, exact_gradients, strict=True))
    rows = [pair for pair in pairs if pair[1].dim()]
    exact_rows = _flat(exact for _, exact in rows)
    difference = _flat(one for one, _ in rows) - exact_rows
    single = [_relative(one, exact) for one, exact in pairs if not exact.dim()]
    return Error(
        name,
        kind,
        _relative(loss, exact_loss),
        (difference.norm() / exact_rows.norm()).item(),
        max(single, default=None),
    )


def is_different(error: Error, case: Case) -> str | None:
    """Why this is not the same loss, or None when it is."""
    allowed = SAME_LOSS[case.kind]
    if error.loss <= allowed:
        return None
    return (
        f"computes a different loss: off by {error.loss:.1e} of it on {error.inputs} inputs, "
        f"allowed are {allowed:.0e}"
    )


def _relative(value: Tensor, exact: Tensor) -> float:
    return ((value.detach().double().cpu() - exact).abs() / exact.abs()).item()


def _flat(values: Iterable[Tensor]) -> Tensor:
    return torch.cat([value.detach().double().cpu().flatten() for value in values])
