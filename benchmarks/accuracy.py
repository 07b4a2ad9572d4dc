"""Errors against float64, and the check that a baseline computes the same loss at all."""

from __future__ import annotations

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

    `inputs` is the kind of inputs, one of the operator's `input_kinds`.
    """

    implementation: str
    inputs: str
    loss: float
    gradient: float


def error_of(
    name: str, function: Function, inputs: tuple[Tensor, ...], truth: Truth, kind: str
) -> Error:
    """Compare one forward + backward of `function` with the float64 `truth`."""
    exact_loss, exact_gradients = truth
    loss, gradients = loss_and_gradients(function, inputs)
    difference = _flat(gradients) - _flat(exact_gradients)
    return Error(
        name,
        kind,
        ((loss.detach().double().cpu() - exact_loss).abs() / exact_loss.abs()).item(),
        (difference.norm() / _flat(exact_gradients).norm()).item(),
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


def _flat(values: tuple[Tensor, ...]) -> Tensor:
    return torch.cat([value.detach().double().cpu().flatten() for value in values])
