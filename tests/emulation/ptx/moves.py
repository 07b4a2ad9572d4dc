"""Moves, selections and comparisons."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.formats import BITS, DTYPES, FLOATS, INTEGERS, Array, flushed
from tests.emulation.ptx.operands import Tuple
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction

_ALL = BITS | INTEGERS | FLOATS
_ORDERED = {
    "eq": np.equal,
    "ne": np.not_equal,
    "lt": np.less,
    "le": np.less_equal,
    "gt": np.greater,
    "ge": np.greater_equal,
}
_UNSIGNED = {"lo": "lt", "ls": "le", "hi": "gt", "hs": "ge"}
_COMBINED = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


@operation("mov", types=_ALL | {"pred"})
def move(state: State, instruction: Instruction) -> None:
    """Also splits a register into the parts of a tuple, or joins them; the first is the lowest."""
    target, source = instruction.operands
    kind = instruction.modifiers[-1]
    if isinstance(target, Tuple):
        part = np.dtype(f"uint{8 * DTYPES[kind].itemsize // len(target.parts)}")
        values = np.ascontiguousarray(state.lanes.read(source, kind)).view(part)
        for register, value in zip(
            target.parts, values.reshape(-1, len(target.parts)).T, strict=True
        ):
            state.lanes.write(register, value.copy())
    elif isinstance(source, Tuple):
        part = f"b{8 * DTYPES[kind].itemsize // len(source.parts)}"
        values = np.stack([state.lanes.read(x, part) for x in source.parts], axis=1)
        state.lanes.write(target, values.view(DTYPES[kind])[:, 0])
    else:
        state.lanes.write(target, state.lanes.read(source, kind))


@operation("cvta", types=("u64", "u32"), modifiers="to global shared")
def convert_address(state: State, instruction: Instruction) -> None:
    """The address itself: generic loads and stores, which would tell spaces apart, are lacking."""
    target, source = instruction.operands
    state.lanes.write(target, state.lanes.read(source, instruction.modifiers[-1]))


@operation("selp", types=_ALL)
def select(state: State, instruction: Instruction) -> None:
    target, yes, no, chooser = instruction.operands
    kind = instruction.modifiers[-1]
    chosen = state.lanes.read(chooser, "pred")
    value = np.where(chosen, state.lanes.read(yes, kind), state.lanes.read(no, kind))
    state.lanes.write(target, value)


@operation(
    "setp",
    types=_ALL,
    modifiers="eq ne lt le gt ge lo ls hi hs equ neu ltu leu gtu geu num nan and or xor ftz",
)
def compare(state: State, instruction: Instruction) -> None:
    """`p|q` are the comparison and its opposite, each combined with a third operand if there is
    one."""
    target, a, b, *third = instruction.operands
    *modifiers, kind = instruction.modifiers
    x, y = state.lanes.read(a, kind), state.lanes.read(b, kind)
    if "ftz" in modifiers:
        x, y = flushed(x), flushed(y)
    holds = compared(modifiers[0], x, y)
    results = (holds, ~holds)
    if third:
        [name] = [x for x in modifiers[1:] if x in _COMBINED]
        other = state.lanes.read(third[0], "pred")
        results = tuple(_COMBINED[name](x, other) for x in results)
    for register, result in zip(state.lanes.parts(target), results, strict=False):
        state.lanes.write(register, result)


def compared(name: str, a: Array, b: Array) -> Array:
    """A comparison with NaN is false, unless its name ends in u."""
    if a.dtype.kind != "f":
        return _ORDERED[_UNSIGNED.get(name, name)](a, b)
    if name in _ORDERED and name != "ne":
        return _ORDERED[name](a, b)
    unordered = np.isnan(a) | np.isnan(b)
    if name in ("num", "nan"):
        return unordered if name == "nan" else ~unordered
    holds = _ORDERED[name[:2]](a, b)
    return holds | unordered if name.endswith("u") else holds & ~unordered
