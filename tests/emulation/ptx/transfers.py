"""ld, st, ldmatrix and cp.async: parameters, global and shared memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import numpy as np

from tests.emulation.ptx.errors import Divergence, Unsupported
from tests.emulation.ptx.formats import BITS, DTYPES, FLOATS, INTEGERS, Array
from tests.emulation.ptx.lanes import WARP
from tests.emulation.ptx.operands import Address, Immediate, Operand, Register, Tuple
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import Copy, State
from tests.emulation.ptx.text import Instruction

_TYPES = BITS | INTEGERS | FLOATS | {"b8", "u8", "s8"}
_CACHES = (
    "volatile weak relaxed acquire release cta gpu sys nc ca cg cs lu cv wb wt "
    "L1::evict_normal L1::evict_first L1::evict_last L1::no_allocate "
    "L2::64B L2::128B L2::256B L2::evict_first L2::evict_last L2::cache_hint"
)
_SHARED = "shared shared::cta"
_MOVES = frozenset({"ld", "st", "atom", "red", "ldmatrix", "cp"})
_MATRIX_ROW, _LEAST_COPY = 16, 4


def is_shared(instruction: Instruction) -> bool:
    return not {"shared", "shared::cta"}.isdisjoint(instruction.modifiers)


def is_global(instruction: Instruction) -> bool:
    return "global" in instruction.modifiers


def least_moved(instructions: Iterable[Instruction], touches: Callable[[Instruction], bool]) -> int:
    """The fewest bytes that a thread moves at once, to or from what `touches` names."""
    moving = (x for x in instructions if x.opcode in _MOVES and touches(x))
    return min((_moved(x) for x in moving), default=1)


def _moved(instruction: Instruction) -> int:
    if instruction.opcode == "ldmatrix":
        return _MATRIX_ROW
    if instruction.opcode == "cp":
        size = instruction.operands[2]
        return size.bits if isinstance(size, Immediate) else _LEAST_COPY
    value = instruction.operands[instruction.opcode == "st"]
    count = len(value.parts) if isinstance(value, Tuple) else 1
    return count * DTYPES[instruction.modifiers[-1]].itemsize


def addresses(state: State, operand: Operand) -> Array:
    """int64 [threads]"""
    assert isinstance(operand, Address)
    wide = isinstance(operand.base, Register) and operand.base.dtype.itemsize == 8
    base = state.lanes.read(operand.base, "u64" if wide else "u32")
    return base.astype(np.int64) + operand.offset


@operation("ld", types=_TYPES, modifiers="v2 v4", one_of="param")
def load_parameter(state: State, instruction: Instruction) -> None:
    target, source = instruction.operands
    registers, dtype = state.lanes.parts(target), DTYPES[instruction.modifiers[-1]]
    at = np.where(state.lanes.mask, addresses(state, source), 0)
    data = state.parameters.load(at, len(registers) * dtype.itemsize)
    for register, value in zip(registers, data.view(dtype).T, strict=True):
        state.lanes.write(register, value.copy())


@operation("ld", types=_TYPES, modifiers=f"v2 v4 {_CACHES}", one_of=f"global {_SHARED}")
def load(state: State, instruction: Instruction) -> None:
    target, source, *_ = instruction.operands
    registers, dtype = state.lanes.parts(target), DTYPES[instruction.modifiers[-1]]
    width = len(registers) * dtype.itemsize
    data = _fetch(state, addresses(state, source), width, state.lanes.mask, is_shared(instruction))
    for register, value in zip(registers, data.view(dtype).T, strict=True):
        state.lanes.write(register, value.copy())


def _fetch(state: State, address: Array, width: int, mask: Array, shared: bool) -> Array:
    """Bytes [threads, width]; ones where the mask is off."""
    lanes, chosen = state.lanes, _chosen(mask)
    warp, at = lanes.warp[chosen], address[chosen]
    if shared:
        found = state.shared.load(state.shared.places(lanes.block[chosen], at, width), width, warp)
        state.counts.shared_access(warp, lanes.in_warp[chosen], at, width, lanes.repeats(mask))
    else:
        found = state.buffers.load(state.buffers.places(at, width), width, lanes.number[chosen])
        state.counts.global_read(warp, at, width)
    if isinstance(chosen, slice):
        return found
    data = np.full((lanes.count, width), 0xFF, np.uint8)
    data[chosen] = found
    return data


def _chosen(mask: Array) -> Array | slice:
    """The threads of the mask, in the form that takes them soonest."""
    return slice(None) if mask.all() else np.flatnonzero(mask)


@operation("st", types=_TYPES, modifiers=f"v2 v4 {_CACHES}", one_of=f"global {_SHARED}")
def store(state: State, instruction: Instruction) -> None:
    target, source, *_ = instruction.operands
    kind = instruction.modifiers[-1]
    values = [state.lanes.read(x, kind) for x in state.lanes.parts(source)]
    data = np.stack(values, axis=1).view(np.uint8)
    lanes, chosen = state.lanes, _chosen(state.lanes.mask)
    at, data = addresses(state, target)[chosen], data[chosen]
    warp, width = lanes.warp[chosen], data.shape[1]
    if is_shared(instruction):
        places = state.shared.places(lanes.block[chosen], at, width)
        state.shared.store(places, data, warp)
        repeats = lanes.repeats(lanes.mask)
        state.counts.shared_access(warp, lanes.in_warp[chosen], at, width, repeats)
    else:
        places = state.buffers.places(at, width)
        state.buffers.store(places, data, lanes.number[chosen])
        state.counts.global_write(warp, at, width)


@operation("ldmatrix", modifiers="sync aligned m8n8 x1 x2 x4 trans b16", one_of=_SHARED)
def load_matrices(state: State, instruction: Instruction) -> None:
    """8 x 8 matrices of 16 bits: of matrix i, thread 8 i + r has the address of row r, and thread t
    receives elements 2 (t % 4) and the next of row t / 4 (of the transpose, with `.trans`)."""
    target, source = instruction.operands
    registers = state.lanes.parts(target)
    require_whole_warps(state)
    giving = state.lanes.mask & (state.lanes.in_warp < 8 * len(registers))
    rows = _fetch(state, addresses(state, source), _MATRIX_ROW, giving, shared=True)
    matrices = rows.view(np.uint16).reshape(-1, 4, 8, 8)  # warp, matrix, row, column
    if "trans" in instruction.modifiers:
        matrices = np.ascontiguousarray(matrices.swapaxes(2, 3))
    pairs = matrices.view(np.uint32).reshape(-1, 4, WARP)
    for number, register in enumerate(registers):
        state.lanes.write(register, pairs[:, number].reshape(-1))


def require_whole_warps(state: State) -> None:
    """Raises `Divergence` where some threads of a warp are missing."""
    if state.lanes.full:
        return
    present = state.lanes.mask.reshape(-1, WARP).sum(1)
    if ((present != 0) & (present != WARP)).any():
        raise Divergence("threads of the warp are missing")


@operation(
    "cp",
    modifiers=f"async ca cg global L2::64B L2::128B L2::256B L2::cache_hint {_SHARED}",
    one_of="ca cg",
)
def begin_copy(state: State, instruction: Instruction) -> None:
    """Bytes past the source's size become zeros; without any the source is not read."""
    target, source, size, *rest = instruction.operands
    if "L2::cache_hint" in instruction.modifiers:
        rest = rest[:-1]
    width = int(state.lanes.read(size, "u32")[0])
    [chosen] = np.nonzero(state.lanes.mask)
    wanted = state.lanes.read(rest[0] if rest else size, "u32")[chosen].astype(np.int64)
    if not np.isin(wanted, (0, width)).all():
        raise Unsupported(f"a copy of a part of {width} bytes: {sorted(set(wanted.tolist()))}")
    warp = state.lanes.warp[chosen]
    data = np.zeros((len(chosen), width), np.uint8)
    reading = wanted > 0
    come_from = addresses(state, source)[chosen][reading]
    places = state.buffers.places(come_from, width)
    data[reading] = state.buffers.load(places, width, state.lanes.number[chosen][reading])
    state.counts.global_read(warp[reading], come_from, width)
    to = addresses(state, target)[chosen]
    at = state.shared.places(state.lanes.block[chosen], to, width)
    state.shared.begin_copy(at, width, warp)
    repeats = state.lanes.repeats(state.lanes.mask)
    state.counts.shared_access(warp, state.lanes.in_warp[chosen], to, width, repeats)
    state.copies.append(Copy(chosen, state.committed[chosen], at, data))


@operation("cp", modifiers="async", one_of="commit_group")
def commit(state: State, instruction: Instruction) -> None:
    state.committed = state.committed + state.lanes.mask


@operation("cp", modifiers="async", one_of="wait_group wait_all")
def wait(state: State, instruction: Instruction) -> None:
    """Of the threads' own copies, all but those of the last groups are complete."""
    if "wait_all" in instruction.modifiers:
        closed = state.committed + 1
    else:
        closed = state.committed - state.lanes.read(instruction.operands[0], "s32")
    remaining = []
    for copy in state.copies:
        done = state.lanes.mask[copy.lanes] & (copy.group < closed[copy.lanes])
        warp = state.lanes.warp[copy.lanes[done]]
        state.shared.end_copy(copy.at[done], copy.data[done], warp)
        if not done.all():
            left = ~done
            remaining.append(
                Copy(copy.lanes[left], copy.group[left], copy.at[left], copy.data[left])
            )
    state.copies = remaining
