"""atom and red: updates of global and shared memory, one thread after the other."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.formats import DTYPES, Array
from tests.emulation.ptx.operands import Operand
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction
from tests.emulation.ptx.transfers import addresses, is_shared

_UPDATES = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
    "exch": lambda old, new: new,
}
_TYPES = ("b32", "b64", "u32", "s32", "u64", "s64", "f32", "f64")
_ORDERS = "relaxed acquire release acq_rel cta gpu sys"
_SPACES = "global shared shared::cta"


@operation("red", types=_TYPES, modifiers=f"{' '.join(_UPDATES)} {_ORDERS}", one_of=_SPACES)
def reduce(state: State, instruction: Instruction) -> None:
    place, *operands = instruction.operands
    _update(state, instruction, place, operands)


@operation("atom", types=_TYPES, modifiers=f"cas {' '.join(_UPDATES)} {_ORDERS}", one_of=_SPACES)
def update(state: State, instruction: Instruction) -> None:
    """The target receives what was there before."""
    target, place, *operands = instruction.operands
    state.lanes.write(target, _update(state, instruction, place, operands))


def _update(
    state: State, instruction: Instruction, place: Operand, operands: list[Operand]
) -> Array:
    dtype = DTYPES[instruction.modifiers[-1]]
    values = [state.lanes.read(operand, instruction.modifiers[-1]) for operand in operands]
    [chosen] = np.nonzero(state.lanes.mask)
    address, width = addresses(state, place)[chosen], dtype.itemsize
    warp = state.lanes.warp[chosen]
    if is_shared(instruction):
        memory = state.shared
        at = memory.places(state.lanes.block[chosen], address, width)
        memory.update(at, width, warp)
        state.counts.shared_access(warp, state.lanes.in_warp[chosen], address, width)
    else:
        memory, at = state.buffers, state.buffers.places(address, width)
        memory.update(at, width, state.lanes.number[chosen])
        state.counts.global_read(warp, address, width)
        state.counts.global_write(warp, address, width)
    before = np.zeros(state.lanes.count, dtype)
    left = np.arange(len(chosen))
    while len(left):  # of the threads that share an address, one a round
        _, first = np.unique(at[left], return_index=True)
        now, lanes = left[first], chosen[left[first]]
        old = memory.peek(at[now], width).view(dtype)[:, 0]
        before[lanes] = old
        new = _changed(instruction, old, [value[lanes] for value in values])
        memory.poke(at[now], np.ascontiguousarray(new.astype(dtype)[:, None]).view(np.uint8))
        left = np.delete(left, first)
    return before


def _changed(instruction: Instruction, old: Array, values: list[Array]) -> Array:
    if "cas" in instruction.modifiers:
        expected, new = values
        return np.where(old == expected, new, old)
    [name] = [x for x in instruction.modifiers if x in _UPDATES]
    return _UPDATES[name](old, values[0])
