"""Registers of the threads that run together: one array a register, one element a thread.

Threads are in order of block, then of number in the block; 32 in a row are a warp. Arrays are never
written in place, so that a register may share its array with another.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.emulation.ptx.errors import Malformed, Unsupported
from tests.emulation.ptx.formats import DTYPES, Array, bits_of, unsigned
from tests.emulation.ptx.operands import (
    Immediate,
    Negated,
    Operand,
    Register,
    Special,
    Symbol,
    Tuple,
)

WARP = 32
Triple = tuple[int, int, int]


class Lanes:
    """Of each thread: its `block` and `warp` among these, its block's `number` in the grid.

    `mask` has the threads that the running instruction changes; `full` says that all of them are
    in it. A register that was never written holds ones, which is NaN as a number.
    """

    def __init__(
        self, blocks: Array, grid: Triple, threads: Triple, symbols: dict[str, int]
    ) -> None:
        per_block = threads[0] * threads[1] * threads[2]
        self.per_block, self.count = per_block, per_block * len(blocks)
        every = np.arange(self.count)
        self.block, self.warp, self.in_warp = every // per_block, every // WARP, every % WARP
        self.number = blocks[self.block]
        self.mask, self.full = np.ones(self.count, np.bool_), True
        self._symbols = symbols
        self._values: dict[str, Array] = {}
        self._constants: dict[tuple[int, str], Array] = {}
        self._special = self._machine_registers(blocks, grid, threads)

    def _machine_registers(self, blocks: Array, grid: Triple, threads: Triple) -> dict[str, Array]:
        thread, block = np.arange(self.count) % self.per_block, self.number
        named: dict[str, Any] = {"%laneid": self.in_warp, "%warpid": thread // WARP}
        for axis, letter in enumerate("xyz"):
            named[f"%tid.{letter}"] = thread // int(np.prod(threads[:axis])) % threads[axis]
            named[f"%ctaid.{letter}"] = block // int(np.prod(grid[:axis])) % grid[axis]
            named[f"%ntid.{letter}"] = np.full(self.count, threads[axis])
            named[f"%nctaid.{letter}"] = np.full(self.count, grid[axis])
        return {name: value.astype(np.uint32) for name, value in named.items()}

    def set_mask(self, mask: Array, full: bool) -> None:
        self.mask, self.full = mask, full

    def repeats(self, mask: Array) -> int:
        """The number of blocks, if the mask has the same threads of each, else 1."""
        each = mask.reshape(-1, self.per_block)
        return len(each) if (each == each[0]).all() else 1

    def read(self, operand: Operand, kind: str) -> Array:
        """The operand of every thread as a type of PTX; a wider register is cut."""
        dtype = DTYPES[kind]
        if isinstance(operand, Register):
            value = self._value(operand)
        elif isinstance(operand, Negated):
            return ~self.read(operand.register, kind)
        elif isinstance(operand, Immediate):
            return self._constant(operand.bits, kind)
        elif isinstance(operand, Symbol):
            if operand.name not in self._symbols:
                raise Unsupported(f"the symbol {operand.name}")
            return self._constant(self._symbols[operand.name], kind)
        elif isinstance(operand, Special) and operand.name in self._special:
            value = self._special[operand.name]
        else:
            raise Unsupported(f"the operand {getattr(operand, 'name', operand)}")
        if value.dtype.itemsize != dtype.itemsize:
            if value.dtype.itemsize < dtype.itemsize:
                raise Malformed(f"an operand is narrower than {kind}")
            value = value.astype(unsigned(dtype))
        return value.view(dtype)

    def write(self, operand: Operand, value: Array) -> None:
        """Into the threads of the mask; a wider register is filled with the sign or zeros."""
        if isinstance(operand, Symbol) and operand.name == "_":
            return
        if not isinstance(operand, Register):
            raise Malformed("the target is no register")
        dtype = unsigned(operand.dtype)
        value = value if value.dtype.kind == "i" else bits_of(value)
        if value.dtype != dtype:
            if value.dtype.itemsize > dtype.itemsize:
                raise Malformed(f"{operand.name} is narrower than the result")
            value = value.astype(dtype)
        if not self.full:
            value = np.where(self.mask, value, self._value(operand))
        self._values[operand.name] = value

    def parts(self, operand: Operand) -> tuple[Operand, ...]:
        """The registers of a vector operand, or the one."""
        return operand.parts if isinstance(operand, Tuple) else (operand,)

    def _value(self, register: Register) -> Array:
        known = self._values.get(register.name)
        if known is None:
            dtype = unsigned(register.dtype)
            known = np.full(self.count, True if dtype == np.bool_ else np.iinfo(dtype).max, dtype)
            self._values[register.name] = known
        return known

    def _constant(self, bits: int, kind: str) -> Array:
        known = self._constants.get((bits, kind))
        if known is None:
            dtype = DTYPES[kind]
            whole = 1 if kind == "pred" else (1 << 8 * dtype.itemsize) - 1
            known = np.full(self.count, bits & whole, unsigned(dtype)).view(dtype)
            self._constants[bits, kind] = known
        return known
