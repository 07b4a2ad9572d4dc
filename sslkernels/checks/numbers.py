"""What operators want of options: numbers, be they tensors with one element, and names."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from sslkernels.checks.tensors import accumulate_dtype, floating, same_device, short, sizes, tensor

REDUCTIONS = ("mean", "sum", "none")


def positive_scalar(
    op: str, name: str, value: object, like: Tensor | None = None, like_name: str = ""
) -> None:
    """`value` is a positive finite number, or a floating tensor with one element that holds one.

    And so, in the dtype that is accumulated in for `like`, is its reciprocal. What a tensor holds
    is looked at only where that costs no synchronisation and is possible at all: on the CPU,
    outside torch.compile and vmap.
    """
    number = _number_in(op, name, value, like, like_name)
    if number is None:
        return
    if not 0 < number < math.inf:
        raise ValueError(f"{op}: {name} must be positive and finite, got {number}")
    dtype, info = _range(like)
    if not info.tiny <= number <= 1 / info.tiny:
        raise ValueError(
            f"{op}: {name} must lie in [{info.tiny:.3g}, {1 / info.tiny:.3g}], where "
            f"{short(dtype)} holds it and its reciprocal, got {number}"
        )


def finite_scalar(op: str, name: str, value: object, like: Tensor, like_name: str) -> None:
    """As `positive_scalar`, of any sign, zero included."""
    number = _number_in(op, name, value, like, like_name)
    if number is None:
        return
    dtype, info = _range(like)
    if not abs(number) <= info.max:
        raise ValueError(f"{op}: {name} must be finite in {short(dtype)}, got {number}")


def _range(like: Tensor | None) -> tuple[torch.dtype, torch.finfo]:
    """Of the dtype that is accumulated in; float32 where that is not known."""
    dtype = torch.float32 if like is None else accumulate_dtype(like.dtype)
    return dtype, torch.finfo(dtype)


def _number_in(
    op: str, name: str, value: object, like: Tensor | None, like_name: str
) -> float | None:
    """The number that a float or a tensor with one element holds; None where it cannot be seen."""
    if isinstance(value, Tensor):
        scalar_tensor(op, name, value, like, like_name)
        if not value.is_cpu or torch.compiler.is_compiling():
            return None
        try:
            return value.item()
        except RuntimeError:  # vmapped or fake: no number to look at
            return None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a float or a tensor, got {type(value).__name__}")
    return value


def number(op: str, name: str, value: object, lowest: float, highest: float) -> None:
    """`value` is a finite number in [lowest, highest], and no tensor."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{op}: {name} must be a float, got {type(value).__name__}")
    if not (lowest <= value <= highest and math.isfinite(value)):
        wanted = "at least 0 and finite" if highest == math.inf else f"in [{lowest}, {highest}]"
        raise ValueError(f"{op}: {name} must be {wanted}, got {value}")


def fraction(op: str, name: str, value: object) -> None:
    """`value` is a number in [0, 1), and no tensor."""
    number(op, name, value, 0.0, 1.0)
    if value == 1.0:
        raise ValueError(f"{op}: {name} must be below 1, got {value}")


def positive_number(op: str, name: str, value: object, like: Tensor | None = None) -> None:
    """As `positive_scalar`, and no tensor."""
    if isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a float, got a tensor")
    positive_scalar(op, name, value, like)


def integer(op: str, name: str, value: object, low: int = -(2**63), high: int = 2**63 - 1) -> None:
    """`value` is an int in [low, high], by default one that int64 holds."""
    if isinstance(value, bool) or not isinstance(value, (int, torch.SymInt)):
        raise TypeError(f"{op}: {name} must be an int, got {type(value).__name__}")
    if not low <= value <= high:
        raise ValueError(f"{op}: {name} must lie in [{low}, {high}], got {value}")


def scalar_tensor(op: str, name: str, value: Tensor, like: Tensor | None, like_name: str) -> None:
    """`value` is a floating tensor with one element, on the CPU or on the device of `like`."""
    tensor(op, name, value)
    if value.dim() > 1 or value.numel() != 1:
        wanted = "one element" if value.numel() != 1 else "at most one dimension"
        raise ValueError(f"{op}: {name} must have {wanted}, got shape {sizes(value)}")
    floating(op, name, value)
    if like is not None and not value.is_cpu:
        same_device(op, name, value, like_name, like)


def offsets(op: str, name: str, value: object) -> None:
    """`value` is a sequence of integers."""
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise TypeError(f"{op}: {name} must be a tuple of ints, got {type(value).__name__}")
    for offset in value:
        if not isinstance(offset, (int, torch.SymInt)):
            raise TypeError(f"{op}: {name} must hold ints, got {type(offset).__name__}")


def reduction(op: str, value: object) -> None:
    if value not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be one of {', '.join(REDUCTIONS)}, got {value!r}")
