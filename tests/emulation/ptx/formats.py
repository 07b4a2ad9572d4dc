"""The types of PTX as NumPy's, and the formats that NumPy has not."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]

DTYPES: dict[str, np.dtype[Any]] = {
    "pred": np.dtype(np.bool_),
    **{f"{kind}{bits}": np.dtype(f"uint{bits}") for kind in "bu" for bits in (8, 16, 32, 64)},
    **{f"s{bits}": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"f{bits}": np.dtype(f"float{bits}") for bits in (16, 32, 64)},
}
INTEGERS = frozenset(f"{kind}{bits}" for kind in "us" for bits in (16, 32, 64))
BITS = frozenset(f"b{bits}" for bits in (16, 32, 64))
FLOATS = frozenset({"f32", "f64"})

_LEAST_NORMAL = np.finfo(np.float32).tiny

WIDEST = 16
"""The most bytes that a thread moves at once."""
_MOVED_AS = {1: "u1", 2: "u2", 4: "u4", 8: "u8", WIDEST: "c16"}
"""What has so many bytes: NumPy picks elements much faster than rows of them."""


def unsigned(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The unsigned integer of the same width."""
    return dtype if dtype == np.bool_ else np.dtype(f"uint{8 * dtype.itemsize}")


def bits_of(value: Array) -> Array:
    """The bits as an unsigned integer; a predicate stays one."""
    return value.view(unsigned(value.dtype))


def fetched(memory: Array, at: Array, width: int) -> Array:
    """Bytes [n, width] of a memory of bytes, at places [n] counted in `width`."""
    return memory.view(_MOVED_AS[width]).take(at).view(np.uint8).reshape(-1, width)


def put(memory: Array, at: Array, data: Array) -> None:
    """Bytes [n, width] into such a memory."""
    width = data.shape[1]
    memory.view(_MOVED_AS[width])[at] = np.ascontiguousarray(data).view(_MOVED_AS[width])[:, 0]


def from_bf16(bits: Array) -> Array:
    """uint16 to float32."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bf16(value: Array) -> Array:
    """float32 to uint16, to nearest even; any NaN becomes 0x7fff, as on the GPU."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    odd = (bits >> np.uint32(16)) & np.uint32(1)
    rounded = (bits + np.uint32(0x7FFF) + odd) >> np.uint32(16)
    return np.where(np.isnan(value), np.uint32(0x7FFF), rounded).astype(np.uint16)


def from_tf32(bits: Array) -> Array:
    """uint32 to float32: the matrix units ignore the last 13 bits."""
    return (bits & np.uint32(0xFFFFE000)).view(np.float32)


def to_tf32(value: Array) -> Array:
    """float32 to uint32 in TF32, to nearest with ties away from zero."""
    bits = np.ascontiguousarray(value, np.float32).view(np.uint32)
    rounded = (bits + np.uint32(0x1000)) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(value), rounded, bits)


def flushed(value: Array) -> Array:
    """Subnormal float32 numbers become zeros of their sign (`.ftz`)."""
    tiny = np.abs(value) < _LEAST_NORMAL
    return np.where(tiny, np.copysign(np.float32(0), value), value) if tiny.any() else value
