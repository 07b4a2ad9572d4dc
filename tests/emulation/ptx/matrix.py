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
from tests.emulation.ptx.operands import Operand
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction
from tests.emulation.ptx.transfers import require_whole_warps

_GROUPS, _MEMBERS = 8, WARP // 8


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
    c = [state.lanes.read(part, "f32") for part in state.lanes.parts(sources[2])]
    warps = len(a[0])
    left = np.empty((warps, 2, _GROUPS, len(a) // 2, _MEMBERS, packed))
    right = np.empty((warps, _GROUPS, len(b), _MEMBERS, packed))  # transposed
    for number, part in enumerate(a):
        left[:, number % 2, :, number // 2] = part  # rows, then columns
    for number, part in enumerate(b):
        right[:, :, number] = part
    right = right.reshape(warps, 8, depth).swapaxes(1, 2)
    product = (left.reshape(warps, 16, depth) @ right).reshape(warps, 2, _GROUPS, _MEMBERS, 2)
    for number, name in enumerate(state.lanes.parts(target)):
        part = product[:, number // 2, :, :, number % 2].reshape(-1)
        state.lanes.write(name, (part + c[number]).astype(np.float32))


def _elements(state: State, operand: Operand, kind: str) -> list[Array]:
    """Of each register float32 [warps, groups, members, elements of a register]"""
    shape = (-1, _GROUPS, _MEMBERS, _FORMATS[kind].packed)
    registers = (state.lanes.read(part, "b32") for part in state.lanes.parts(operand))
    return [_numbers(bits, kind).reshape(shape) for bits in registers]


def _numbers(bits: Array, kind: str) -> Array:
    if kind == "tf32":
        return from_tf32(bits)
    halves = bits.view(np.uint16)
    return from_bf16(halves) if kind == "bf16" else halves.view(np.float16)
