"""Argument validation: one place, one style.

Every error names the operator and the argument, says what came and what was wanted. The first
test in each function is the cheap one that good arguments pass.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)
REDUCTIONS = ("mean", "sum", "none")


def accumulate_dtype(dtype: torch.dtype) -> torch.dtype:
    """The dtype of logits, sums and losses: float64 for float64, else float32."""
    return torch.float64 if dtype is torch.float64 else torch.float32


def tensor(op: str, name: str, value: object) -> None:
    """`value` is a dense, strided tensor."""
    if not isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a torch.Tensor, got {type(value).__name__}")
    if value.layout is not torch.strided or value.is_nested:
        kind = "a nested tensor" if value.is_nested else f"layout {value.layout}"
        raise TypeError(f"{op}: {name} must be a dense tensor, got {kind}")


def floating(op: str, name: str, value: Tensor) -> None:
    """`value` has one of the four floating dtypes."""
    if value.dtype not in FLOAT_DTYPES:
        wanted = ", ".join(_short(dtype) for dtype in FLOAT_DTYPES)
        raise TypeError(f"{op}: {name} must be one of {wanted}, got {_short(value.dtype)}")


def matrix(op: str, name: str, value: object) -> None:
    """`value` is a dense floating matrix with at least one column."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    if value.dim() != 2:
        raise ValueError(f"{op}: {name} must be 2-D [rows, features], got {_shape(value)}")
    floating(op, name, value)
    if value.shape[1] == 0:
        raise ValueError(f"{op}: {name} must have at least one feature, got {_shape(value)}")


def vector(op: str, name: str, value: object, length: int, like: Tensor, like_name: str) -> None:
    """`value` is a dense floating vector of `length` on the device of `like`."""
    floats(op, name, value, (length,), like, like_name)


def floats(
    op: str, name: str, value: object, shape: Sequence[int], like: Tensor, like_name: str
) -> None:
    """`value` is a dense floating tensor of this shape on the device of `like`."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    if tuple(value.shape) != tuple(shape):
        wanted = ", ".join(str(size) for size in shape)
        raise ValueError(f"{op}: {name} must have shape [{wanted}], got {_shape(value)}")
    floating(op, name, value)
    same_device(op, name, value, like_name, like)


def constant_vector(
    op: str, name: str, value: object, length: int, like: Tensor, like_name: str
) -> None:
    """As `vector`, and without a gradient."""
    vector(op, name, value, length, like, like_name)
    assert isinstance(value, Tensor)
    if value.requires_grad and torch.is_grad_enabled():
        raise ValueError(
            f"{op}: {name} has no gradient and must not require one, pass {name}.detach()"
        )


def keys(
    op: str,
    name: str,
    value: object,
    like: Tensor,
    like_name: str,
    *,
    may_be_empty: bool = False,
) -> None:
    """`value` is a matrix with at least one row, and the features and device of `like`."""
    matrix(op, name, value)
    assert isinstance(value, Tensor)
    empty = value.shape[0] == 0 and not may_be_empty
    if empty or value.shape[1] != like.shape[-1]:
        raise ValueError(
            f"{op}: {name} must have shape [n, {like.shape[-1]}] with n at least 1, "
            f"got {_shape(value)}"
        )
    same_device(op, name, value, like_name, like)


def row_keys(op: str, name: str, value: object, like: Tensor, like_name: str) -> None:
    """`value` [N, K, D] is dense and floating: K keys for each row of `like`, on its device."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    n, d = like.shape
    if value.dim() != 3 or value.shape[0] != n or value.shape[1] == 0 or value.shape[2] != d:
        raise ValueError(
            f"{op}: {name} must have shape [{n}, K, {d}] with K at least 1 where each row has its "
            f"own, got {_shape(value)}"
        )
    floating(op, name, value)
    same_device(op, name, value, like_name, like)


def integer_tensor(op: str, name: str, value: object) -> None:
    """`value` is a dense tensor of integers."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{op}: {name} must hold integers, got {_short(value.dtype)}")


def integers(
    op: str, name: str, value: object, shape: Sequence[int], like: Tensor, like_name: str
) -> None:
    """`value` is a dense tensor of integers of this shape on the device of `like`."""
    integer_tensor(op, name, value)
    assert isinstance(value, Tensor)
    if tuple(value.shape) != tuple(shape):
        wanted = ", ".join(str(size) for size in shape)
        raise ValueError(f"{op}: {name} must have shape [{wanted}], got {_shape(value)}")
    same_device(op, name, value, like_name, like)


def indices(op: str, name: str, value: Tensor, classes: int, ignored: int | None = None) -> None:
    """Every element of an integer tensor is in [0, classes) or `ignored`.

    Looked at where that is free, as in `positive_scalar`; elsewhere the kernels notice.
    """
    if not value.is_cpu or torch.compiler.is_compiling():
        return
    wrong = (value < 0) | (value >= classes)
    if ignored is not None:
        wrong &= value != ignored
    try:
        if not wrong.any().item():
            return
    except RuntimeError:  # vmapped or fake: no values to look at
        return
    wanted = f"in [0, {classes})" + ("" if ignored is None else f" or {ignored}")
    raise ValueError(f"{op}: {name} must be {wanted}, got {value[wrong][0].item()}")


def same_device(op: str, name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    if value.device != like.device:
        raise ValueError(
            f"{op}: {name} must be on the device of {like_name}, {like.device}, got {value.device}"
        )


def same_dtype(op: str, name: str, value: Tensor, like_name: str, like: Tensor) -> None:
    if value.dtype is not like.dtype:
        raise TypeError(
            f"{op}: {name} must have the dtype of {like_name}, {_short(like.dtype)}, "
            f"got {_short(value.dtype)}"
        )


def autocast(value: Tensor) -> Tensor:
    """Cast to the autocast dtype when autocast is on for the tensor's device; float64 stays."""
    device = value.device.type
    if torch.is_autocast_enabled(device) and value.dtype is not torch.float64:
        return value.to(torch.get_autocast_dtype(device))
    return value


def views(
    op: str,
    z1: object,
    z2: object,
    first: str = "z1",
    second: str = "z2",
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    """Two views of one batch: matrices of one shape, dtype and device, cast for autocast.

    `first` and `second` are what the caller knows them by.
    """
    matrix(op, first, z1)
    matrix(op, second, z2)
    assert isinstance(z1, Tensor) and isinstance(z2, Tensor)
    if z1.shape != z2.shape:
        raise ValueError(
            f"{op}: {second} must have the shape of {first}, {_shape(z1)}, got {_shape(z2)}"
        )
    if z1.shape[0] == 0 and not may_be_empty:
        raise ValueError(f"{op}: {first} and {second} must have at least one row, got {_shape(z1)}")
    same_device(op, second, z2, first, z1)
    z1, z2 = autocast(z1), autocast(z2)
    same_dtype(op, second, z2, first, z1)
    return z1, z2


def reduction(op: str, value: object) -> None:
    if value not in REDUCTIONS:
        raise ValueError(f"{op}: reduction must be one of {', '.join(REDUCTIONS)}, got {value!r}")


def positive_scalar(
    op: str, name: str, value: object, like: Tensor | None = None, like_name: str = ""
) -> None:
    """`value` is a positive finite number, or a floating tensor with one element that holds one.

    What a tensor holds is looked at only where that costs no synchronisation and is possible at
    all: on the CPU, outside torch.compile and vmap.
    """
    number = _number_in(op, name, value, like, like_name)
    if number is not None and not 0 < number < math.inf:
        raise ValueError(f"{op}: {name} must be positive and finite, got {number}")


def finite_scalar(op: str, name: str, value: object, like: Tensor, like_name: str) -> None:
    """As `positive_scalar`, of any sign."""
    number = _number_in(op, name, value, like, like_name)
    if number is not None and not math.isfinite(number):
        raise ValueError(f"{op}: {name} must be finite, got {number}")


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


def positive_number(op: str, name: str, value: object) -> None:
    """`value` is a positive finite number, and no tensor."""
    if isinstance(value, Tensor):
        raise TypeError(f"{op}: {name} must be a float, got a tensor")
    positive_scalar(op, name, value)


def scalar_tensor(op: str, name: str, value: Tensor, like: Tensor | None, like_name: str) -> None:
    """`value` is a floating tensor with one element, on the CPU or on the device of `like`."""
    tensor(op, name, value)
    if value.dim() > 1 or value.numel() != 1:
        raise ValueError(f"{op}: {name} must have one element, got shape {_shape(value)}")
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


def _shape(value: Tensor) -> str:
    return f"[{', '.join(str(size) for size in value.shape)}]"


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")
