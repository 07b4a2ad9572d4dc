"""Integer arithmetic and logic. Numbers wrap around; shifts past the width give 0 or the sign."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.errors import Malformed
from tests.emulation.ptx.formats import BITS, DTYPES, INTEGERS, Array
from tests.emulation.ptx.operands import Immediate
from tests.emulation.ptx.operations import computes, operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction

_SIGNED = tuple(x for x in INTEGERS if x.startswith("s"))
_SHORT = ("u16", "s16", "u32", "s32")
_WORDS = ("b32", "b64")

computes("add", INTEGERS)(np.add)
computes("sub", INTEGERS)(np.subtract)
computes("mul", INTEGERS, "lo")(np.multiply)
computes("min", INTEGERS)(np.minimum)
computes("max", INTEGERS)(np.maximum)
computes("neg", _SIGNED)(np.negative)
computes("abs", _SIGNED)(np.abs)
computes("and", BITS | {"pred"})(np.bitwise_and)
computes("or", BITS | {"pred"})(np.bitwise_or)
computes("xor", BITS | {"pred"})(np.bitwise_xor)
computes("not", BITS | {"pred"})(np.invert)


@computes("mad", INTEGERS, "lo")
def multiply_add(a: Array, b: Array, c: Array) -> Array:
    return a * b + c


@computes("div", INTEGERS)
def divide(a: Array, b: Array) -> Array:
    """Towards zero; all ones for a divisor of zero, as NVIDIA's GPUs give."""
    divisor = np.where(b == 0, b.dtype.type(1), b)
    return np.where(b == 0, ~b.dtype.type(0), (a - np.fmod(a, divisor)) // divisor)


@computes("rem", INTEGERS)
def remainder(a: Array, b: Array) -> Array:
    """With the sign of the dividend; the dividend itself for a divisor of zero."""
    return np.where(b == 0, a, np.fmod(a, np.where(b == 0, b.dtype.type(1), b)))


@operation("mul", "mad", types=_SHORT, modifiers="wide")
def wide(state: State, instruction: Instruction) -> None:
    """A product of twice the width, plus a number of that width."""
    kind = instruction.modifiers[-1]
    double = f"{kind[0]}{2 * int(kind[1:])}"
    target, a, b, *addend = instruction.operands
    x, y = (state.lanes.read(part, kind).astype(DTYPES[double]) for part in (a, b))
    product = x * y
    state.lanes.write(target, product + state.lanes.read(addend[0], double) if addend else product)


@operation("mul", "mad", types=INTEGERS, modifiers="hi")
def high(state: State, instruction: Instruction) -> None:
    """The upper half of a product, in Python's integers since 64 bits times 64 is possible."""
    kind = instruction.modifiers[-1]
    target, a, b, *addend = instruction.operands
    x, y = (state.lanes.read(part, kind).astype(object) for part in (a, b))
    product = np.asarray((x * y) >> int(kind[1:])).astype(DTYPES[kind])
    state.lanes.write(target, product + state.lanes.read(addend[0], kind) if addend else product)


@operation("shl", "shr", types=BITS | INTEGERS)
def shift(state: State, instruction: Instruction) -> None:
    target, source, by = instruction.operands
    kind = instruction.modifiers[-1]
    value, steps = state.lanes.read(source, kind), state.lanes.read(by, "u32")
    width = 8 * value.dtype.itemsize
    most = np.minimum(steps, width - 1).astype(value.dtype)
    if instruction.opcode == "shr" and kind.startswith("s"):
        state.lanes.write(target, value >> most)
        return
    moved = value << most if instruction.opcode == "shl" else value >> most
    state.lanes.write(target, np.where(steps >= width, value.dtype.type(0), moved))


@operation("shf", types=("b32",), modifiers="l r wrap clamp")
def funnel_shift(state: State, instruction: Instruction) -> None:
    target, low, high_, by = instruction.operands
    pair = state.lanes.read(high_, "u32").astype(np.uint64) << np.uint64(32)
    pair |= state.lanes.read(low, "u32").astype(np.uint64)
    steps = state.lanes.read(by, "u32")
    steps = steps & np.uint32(31) if "wrap" in instruction.modifiers else np.minimum(steps, 32)
    if "l" in instruction.modifiers:
        steps = 32 - steps
    state.lanes.write(target, (pair >> steps.astype(np.uint64)).astype(np.uint32))


@operation("bfe", types=("u32", "s32", "u64", "s64"))
def extract(state: State, instruction: Instruction) -> None:
    """`length` bits from `start`; a signed field is extended with its upper bit."""
    target, source, start, length = instruction.operands
    kind = instruction.modifiers[-1]
    width = int(kind[1:])
    value = state.lanes.read(source, kind).astype(object)
    first = state.lanes.read(start, "u32").astype(object) & 255
    count = state.lanes.read(length, "u32").astype(object) & 255
    if kind.startswith("u"):
        field = (value >> first) & ((1 << count) - 1)
    else:
        upper = np.minimum(first + count, width)
        field = np.where(count == 0, 0, (value << (width - upper)) & ((1 << width) - 1))
        field = np.where(field >> (width - 1) & 1, field - (1 << width), field)
        field = field >> (width - upper) >> np.minimum(first, width)
    state.lanes.write(target, field.astype(DTYPES[kind]))


@operation("bfi", types=_WORDS)
def insert(state: State, instruction: Instruction) -> None:
    target, source, into, start, length = instruction.operands
    kind = instruction.modifiers[-1]
    first = state.lanes.read(start, "u32").astype(object) & 255
    count = state.lanes.read(length, "u32").astype(object) & 255
    field = ((1 << count) - 1) << first
    value = (state.lanes.read(source, kind).astype(object) << first) & field
    kept = state.lanes.read(into, kind).astype(object) & ~field
    whole = (1 << int(kind[1:])) - 1
    state.lanes.write(target, ((value | kept) & whole).astype(DTYPES[kind]))


@operation("popc", "clz", "brev", types=_WORDS)
def count_bits(state: State, instruction: Instruction) -> None:
    target, source = instruction.operands
    kind = instruction.modifiers[-1]
    value = state.lanes.read(source, kind)
    bits = np.unpackbits(value.astype(value.dtype.newbyteorder(">")).view(np.uint8))
    bits = bits.reshape(len(value), -1)
    if instruction.opcode == "popc":
        state.lanes.write(target, bits.sum(1, dtype=np.uint32))
    elif instruction.opcode == "clz":
        state.lanes.write(target, np.cumprod(1 - bits, axis=1).sum(1).astype(np.uint32))
    else:
        turned = np.packbits(np.ascontiguousarray(bits[:, ::-1]), axis=1)
        big_endian = turned.view(value.dtype.newbyteorder(">"))[:, 0]
        state.lanes.write(target, big_endian.astype(DTYPES[kind]))


@operation("lop3", types=("b32",))
def logic(state: State, instruction: Instruction) -> None:
    """Any function of three bits, as the table of its eight values, which is a constant."""
    target, *sources, table = instruction.operands
    if not isinstance(table, Immediate):
        raise Malformed("the table is no constant")
    a, b, c = (state.lanes.read(source, "b32") for source in sources)
    result = np.zeros_like(a)
    for case in range(8):
        if table.bits >> case & 1:
            result |= (a if case & 4 else ~a) & (b if case & 2 else ~b) & (c if case & 1 else ~c)
    state.lanes.write(target, result)


@operation("prmt", types=("b32",))
def permute(state: State, instruction: Instruction) -> None:
    """Four bytes chosen from eight; the fourth bit of a choice spreads that byte's sign."""
    target, *sources = instruction.operands
    a, b, chooser = (state.lanes.read(source, "b32") for source in sources)
    eight = np.stack([a, b], axis=1).view(np.uint8)
    if isinstance(sources[2], Immediate) and not sources[2].bits & 0x8888:
        chosen = np.empty_like(eight[:, :4])
        for byte in range(4):
            chosen[:, byte] = eight[:, sources[2].bits >> 4 * byte & 7]
        state.lanes.write(target, chosen.view(np.uint32)[:, 0])
        return
    choices = chooser[:, None] >> np.arange(0, 16, 4, dtype=np.uint32)
    chosen = np.take_along_axis(eight, (choices & np.uint32(7)).astype(np.int64), axis=1)
    sign = np.where(chosen & 0x80, 0xFF, 0).astype(np.uint8)
    chosen = np.where(choices & np.uint32(8), sign, chosen)
    state.lanes.write(target, np.ascontiguousarray(chosen).view(np.uint32)[:, 0])
