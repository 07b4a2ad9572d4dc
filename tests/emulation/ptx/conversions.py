"""cvt: between integers, between floating-point formats, and from one to the other."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.formats import DTYPES, Array, flushed, from_bf16, to_bf16, to_tf32
from tests.emulation.ptx.operands import Operand
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction

_TYPES = "u8 s8 u16 s16 u32 s32 u64 s64 f16 f32 f64"
_TO_INTEGRAL = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}


@operation("cvt", modifiers=f"{_TYPES} bf16 rn rni rzi rmi rpi sat ftz")
def convert(state: State, instruction: Instruction) -> None:
    *modifiers, to, come_from = instruction.modifiers
    target, source = instruction.operands
    value = _as_number(state, source, come_from)
    if "ftz" in modifiers and value.dtype == np.float32:
        value = flushed(value)
    for name, rounded in _TO_INTEGRAL.items():
        if name in modifiers:
            value = rounded(value)
    if to == "bf16":
        state.lanes.write(target, to_bf16(value))
    else:
        state.lanes.write(target, converted(value, to, "sat" in modifiers))


@operation("cvt", modifiers="rn bf16x2 f16x2 f32")
def convert_pair(state: State, instruction: Instruction) -> None:
    """Two float32 numbers to a register; the second is the lower half."""
    target, *sources = instruction.operands
    high, low = (state.lanes.read(source, "f32") for source in sources)
    if "bf16x2" in instruction.modifiers:
        halves = to_bf16(low), to_bf16(high)
    else:
        halves = (x.astype(np.float16).view(np.uint16) for x in (low, high))
    state.lanes.write(target, np.stack([*halves], axis=1).view(np.uint32)[:, 0])


@operation("cvt", modifiers="rna tf32 f32")
def convert_tf32(state: State, instruction: Instruction) -> None:
    target, source = instruction.operands
    state.lanes.write(target, to_tf32(state.lanes.read(source, "f32")))


def _as_number(state: State, source: Operand, kind: str) -> Array:
    if kind == "bf16":
        return from_bf16(state.lanes.read(source, "b16"))
    return state.lanes.read(source, kind)


def converted(value: Array, to: str, saturate: bool) -> Array:
    """A float outside an integer's range becomes its nearest end, and NaN 0; an integer wraps,
    unless it is to saturate, which brings floats into [0, 1]."""
    dtype = DTYPES[to]
    if dtype.kind == "f":
        return np.clip(value, 0, 1).astype(dtype) if saturate else value.astype(dtype)
    ends = np.iinfo(dtype)
    if value.dtype.kind == "f":
        wide = value.astype(np.float64)
        inside = np.where(np.isnan(wide) | (wide >= float(ends.max)) | (wide <= ends.min), 0, wide)
        result = np.where(wide >= float(ends.max), ends.max, inside.astype(dtype))
        return np.where(wide <= ends.min, ends.min, result).astype(dtype)
    if saturate:
        return np.array([min(max(int(x), ends.min), ends.max) for x in value], dtype)
    return value.astype(dtype)
