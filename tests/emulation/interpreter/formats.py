"""Number formats that NumPy lacks: bfloat16 as bit patterns, and what matrix units make of float32.

Triton's interpreter keeps a bfloat16 tensor as an array of uint16.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

_NAN = np.uint16(0x7FC0)


def widen(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """bfloat16 bit patterns as float32, exactly."""
    return (np.ascontiguousarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32)


def narrow(values: NDArray[np.float32]) -> NDArray[np.uint16]:
    """float32 rounded to bfloat16 bit patterns, to nearest even."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    rounded = _round_to_even(values, 16) >> np.uint32(16)
    return np.where(np.isnan(values), _NAN, rounded.astype(np.uint16))


def round_bfloat16(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 rounded to the nearest bfloat16."""
    return widen(narrow(values))


def round_tf32(values: NDArray[np.float32]) -> NDArray[np.float32]:
    """float32 rounded to the 10 mantissa bits of TF32."""
    values = np.ascontiguousarray(values, dtype=np.float32)
    rounded = _round_to_even(values, 13) & np.uint32(0xFFFFE000)
    return np.where(np.isfinite(values), rounded.view(np.float32), values)


def split_product(
    a: NDArray[np.float32], b: NDArray[np.float32], precision: str
) -> NDArray[np.float32]:
    """A float32 matrix product as the matrix units compute it.

    Args:
        precision: "ieee"; "tf32", "bf16", each operand rounded once; "tf32x3", "bf16x3", "bf16x6",
            a sum of that many products of the operands' parts, the smallest terms first.
    """
    with np.errstate(invalid="ignore"):
        if precision == "ieee":
            return np.matmul(a, b)
        rounding = round_tf32 if precision.startswith("tf32") else round_bfloat16
        parts, last = {"x3": (2, 1), "x6": (3, 2)}.get(precision[-2:], (1, 0))
        left, right = _parts(a, rounding, parts), _parts(b, rounding, parts)
        # Part i of an operand is some 2^(-8 i) of it: products beyond the order `last` are dropped.
        pairs = sorted(
            ((i, j) for i in range(parts) for j in range(parts) if i + j <= last),
            key=lambda pair: -sum(pair),
        )
        total = sum(np.matmul(left[i], right[j]) for i, j in pairs)
        # An infinite operand has no remainder: inf - inf. Its leading product says what is due.
        leading = np.matmul(left[0], right[0])
        return np.where(np.isfinite(leading), total, leading).astype(np.float32)


def _parts(values, rounding, count):
    parts = []
    for _ in range(count):
        part = rounding(values)
        parts.append(part)
        values = values - part
    return parts


def _round_to_even(values: NDArray[np.float32], dropped: int) -> NDArray[np.uint32]:
    bits = values.view(np.uint32)
    odd = (bits >> np.uint32(dropped)) & np.uint32(1)
    return bits + np.uint32((1 << (dropped - 1)) - 1) + odd
