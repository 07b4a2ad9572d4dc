"""mma.sync: the matrix products of a warp, with float32 sums.

A is [16, k], B [k, 8], C and D [16, 8]. Which thread holds which element is in the PTX ISA, section
"Matrix Fragments for mma"; thread t is in row group t / 4 and column group t % 4. A product is
summed in float64 and rounded once: the order of the GPU's own sums is not specified.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

from tests.emulation.ptx.errors import Unsupported
from tests.emulation.ptx.formats import Array, from_bf16, from_tf32
from tests.emulation.ptx.lanes import WARP
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction, Operand
from tests.emulation.ptx.transfers import require_whole_warps

_LANE = np.arange(WARP)
_GROUP, _MEMBER = _LANE // 4, _LANE % 4


class _Format(NamedTuple):
    """`k` that a shape may have, and `packed` elements in a register."""

    depths: tuple[str, ...]
    packed: int


_FORMATS = {
    "bf16": _Format(("m16n8k8", "m16n8k16"), 2),
    "f16": _Format(("m16n8k8", "m16n8k16"), 2),
    "tf32": _Format(("m16n8k4", "m16n8k8"), 1),
}


@operation("mma", modifiers="sync aligned m16n8k4 m16n8k8 m16n8k16 row col f32 f16 bf16 tf32")
def multiply(state: State, instruction: Instruction) -> None:
    _, _, shape, row, column, sums, kind, second, third = instruction.modifiers
    if (row, column, sums, third, second) != ("row", "col", "f32", "f32", kind):
        raise Unsupported("no such product")
    if kind not in _FORMATS or shape not in _FORMATS[kind].depths:
        raise Unsupported("no such product")
    require_whole_warps(state)
    target, *sources = instruction.operands
    depth, packed = int(shape.removeprefix("m16n8k")), _FORMATS[kind].packed
    a, b = (_elements(state, source, kind) for source in sources[:2])
    c = _registers(state, sources[2]).view(np.float32)
    left = np.zeros((len(a), 16, depth))
    right = np.zeros((len(a), depth, 8))
    for register in range(a.shape[2]):
        for half in range(packed):
            at = packed * _MEMBER + half
            left[:, _GROUP + 8 * (register % 2), at + 4 * packed * (register // 2)] = a[
                :, :, register, half
            ]
            if register < b.shape[2]:
                right[:, at + 4 * packed * register, _GROUP] = b[:, :, register, half]
    product = left @ right
    for register, name in enumerate(state.lanes.parts(target)):
        part = product[:, _GROUP + 8 * (register // 2), 2 * _MEMBER + register % 2]
        state.lanes.write(name, (part + c[:, :, register]).astype(np.float32).reshape(-1))


def _registers(state: State, operand: Operand) -> Array:
    """uint32 [warps, threads, registers]"""
    values = [state.lanes.read(part, "b32") for part in state.lanes.parts(operand)]
    return np.stack(values, axis=1).reshape(-1, WARP, len(values))


def _elements(state: State, operand: Operand, kind: str) -> Array:
    """float32 [warps, threads, registers, elements of a register]"""
    bits = _registers(state, operand)
    if kind == "tf32":
        return from_tf32(bits)[..., None]
    halves = bits.view(np.uint16).reshape(*bits.shape, 2)
    return from_bf16(halves) if kind == "bf16" else halves.view(np.float16).astype(np.float32)
