"""What threads of a warp tell each other: shfl, vote, redux, activemask."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.errors import AssertionFailed, Divergence
from tests.emulation.ptx.formats import DTYPES, Array
from tests.emulation.ptx.lanes import WARP
from tests.emulation.ptx.operands import Immediate, Operand
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction

_LANE = np.arange(WARP, dtype=np.int64)
_ALL = (1 << WARP) - 1
_REDUCED = {
    "add": np.add,
    "min": np.minimum,
    "max": np.maximum,
    "and": np.bitwise_and,
    "or": np.bitwise_or,
    "xor": np.bitwise_xor,
}


@operation("shfl", modifiers="sync up down bfly idx b32")
def shuffle(state: State, instruction: Instruction) -> None:
    """Each thread reads a register of another one, or its own where that one is out of range."""
    target, source, by, clamp, members = instruction.operands
    _require_members(state, members)
    mode = instruction.modifiers[1]
    value = state.lanes.read(source, "b32").reshape(-1, WARP)
    alike = isinstance(by, Immediate) and isinstance(clamp, Immediate)
    distance, bounds = (
        state.lanes.read(x, "u32").reshape(-1, WARP)[: 1 if alike else None].astype(np.int64)
        for x in (by, clamp)
    )
    distance = distance & 31
    segment, end = bounds >> 8 & 31, bounds & 31
    lowest = _LANE & segment
    highest = lowest | end & ~segment & 31
    wanted = {
        "up": _LANE - distance,
        "down": _LANE + distance,
        "bfly": _LANE ^ distance,
        "idx": lowest | distance & ~segment & 31,
    }[mode]
    inside = wanted >= highest if mode == "up" else wanted <= highest
    chosen = np.where(inside, wanted, _LANE)

    def taken(values: Array) -> Array:
        if alike:
            return values.take(chosen[0], axis=1)
        return np.take_along_axis(values, chosen, axis=1)

    mask = state.lanes.mask.reshape(-1, WARP)
    if not state.lanes.full and (mask & ~taken(mask)).any():
        raise Divergence("a thread reads the register of one that is not there")
    results = (taken(value), np.broadcast_to(inside, value.shape))
    for register, result in zip(state.lanes.parts(target), results, strict=False):
        state.lanes.write(register, result.reshape(-1))


@operation("call", modifiers="uni", one_of="__assertfail")
def assertion_fails(state: State, instruction: Instruction) -> None:
    if state.lanes.mask.any():
        raise AssertionFailed("an assertion does not hold")


@operation("vote", modifiers="sync any all uni ballot pred b32")
def vote(state: State, instruction: Instruction) -> None:
    target, source, members = instruction.operands
    _require_members(state, members)
    voters = state.lanes.mask.reshape(-1, WARP)
    yes = state.lanes.read(source, "pred").reshape(-1, WARP) & voters
    mode = instruction.modifiers[1]
    if mode == "ballot":
        state.lanes.write(target, _bits(yes))
        return
    everybody = (yes == voters).all(1)
    outcome = {"any": yes.any(1), "all": everybody, "uni": everybody | ~yes.any(1)}[mode]
    state.lanes.write(target, np.repeat(outcome, WARP))


@operation("activemask", modifiers="b32")
def active_mask(state: State, instruction: Instruction) -> None:
    state.lanes.write(instruction.operands[0], _bits(state.lanes.mask.reshape(-1, WARP)))


@operation("redux", types=("b32", "u32", "s32"), modifiers=f"sync {' '.join(_REDUCED)}")
def reduce(state: State, instruction: Instruction) -> None:
    target, source, members = instruction.operands
    _require_members(state, members)
    _, name, kind = instruction.modifiers
    values = state.lanes.read(source, kind).reshape(-1, WARP)
    present = state.lanes.mask.reshape(-1, WARP)
    totals = np.zeros(len(values), DTYPES[kind])
    for warp in np.nonzero(present.any(1))[0]:
        totals[warp] = _REDUCED[name].reduce(values[warp, present[warp]], dtype=DTYPES[kind])
    state.lanes.write(target, np.repeat(totals, WARP))


def _bits(flags: Array) -> Array:
    """A word of the flags of each warp, in all of its threads."""
    words = (flags.astype(np.uint64) << _LANE.astype(np.uint64)).sum(1).astype(np.uint32)
    return np.repeat(words, WARP)


def _require_members(state: State, members: Operand) -> None:
    """Raises `Divergence` where threads that the mask names are missing, or others are there."""
    if state.lanes.full and isinstance(members, Immediate) and members.bits & _ALL == _ALL:
        return
    named = state.lanes.read(members, "u32").reshape(-1, WARP)
    present = state.lanes.mask.reshape(-1, WARP)
    words = _bits(present).reshape(-1, WARP)
    if (present & (named != words)).any():
        raise Divergence("the threads that are there are not those of the member mask")
