"""What operators want of tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

FLOAT_DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
INTEGER_DTYPES = (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8)


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
        wanted = ", ".join(short(dtype) for dtype in FLOAT_DTYPES)
        raise TypeError(f"{op}: {name} must be one of {wanted}, got {short(value.dtype)}")


def matrix(op: str, name: str, value: object) -> None:
    """`value` is a dense floating matrix with at least one column."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    if value.dim() != 2:
        raise ValueError(f"{op}: {name} must be 2-D [rows, features], got {sizes(value)}")
    floating(op, name, value)
    if value.shape[1] == 0:
        raise ValueError(f"{op}: {name} must have at least one feature, got {sizes(value)}")


def vector(op: str, name: str, value: object, length: int, like: Tensor, like_name: str) -> None:
    """`value` is a dense floating vector of `length` on the device of `like`."""
    floats(op, name, value, (length,), like, like_name)


def floats(
    op: str, name: str, value: object, shape: Sequence[int], like: Tensor, like_name: str
) -> None:
    """`value` is a dense floating tensor of this shape on the device of `like`."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    _shaped(op, name, value, shape)
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
            f"got {sizes(value)}"
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
            f"own, got {sizes(value)}"
        )
    floating(op, name, value)
    same_device(op, name, value, like_name, like)


def integer_tensor(op: str, name: str, value: object) -> None:
    """`value` is a dense tensor of integers."""
    tensor(op, name, value)
    assert isinstance(value, Tensor)
    if value.dtype not in INTEGER_DTYPES:
        raise TypeError(f"{op}: {name} must hold integers, got {short(value.dtype)}")


def integers(
    op: str, name: str, value: object, shape: Sequence[int], like: Tensor, like_name: str
) -> None:
    """`value` is a dense tensor of integers of this shape on the device of `like`."""
    integer_tensor(op, name, value)
    assert isinstance(value, Tensor)
    _shaped(op, name, value, shape)
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
            f"{op}: {name} must have the dtype of {like_name}, {short(like.dtype)}, "
            f"got {short(value.dtype)}"
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
            f"{op}: {second} must have the shape of {first}, {sizes(z1)}, got {sizes(z2)}"
        )
    if z1.shape[0] == 0 and not may_be_empty:
        raise ValueError(f"{op}: {first} and {second} must have at least one row, got {sizes(z1)}")
    same_device(op, second, z2, first, z1)
    z1, z2 = autocast(z1), autocast(z2)
    same_dtype(op, second, z2, first, z1)
    return z1, z2


def sizes(value: Tensor) -> str:
    """For messages."""
    return f"[{', '.join(str(size) for size in value.shape)}]"


def _shaped(op: str, name: str, value: Tensor, shape: Sequence[int]) -> None:
    if tuple(value.shape) != tuple(shape):
        wanted = ", ".join(str(size) for size in shape)
        raise ValueError(f"{op}: {name} must have shape [{wanted}], got {sizes(value)}")


def short(dtype: torch.dtype) -> str:
    """The dtype's name without torch; for messages."""
    return str(dtype).removeprefix("torch.")
