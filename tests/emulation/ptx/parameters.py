"""The arguments of a launch as a kernel sees them: bytes at addresses of their own."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from tests.emulation.ptx.errors import OutOfBounds
from tests.emulation.ptx.formats import DTYPES, Array
from tests.emulation.ptx.global_memory import GlobalMemory

_ALIGNMENT = 16


@dataclasses.dataclass(frozen=True)
class Struct:
    """An argument by value: its bytes, and the arrays whose addresses stand at some of them."""

    data: bytes
    pointers: Mapping[int, Array]


Argument = Array | int | float | Struct


def arrays_of(arguments: Sequence[Argument]) -> list[Array]:
    """All arrays that a launch may touch."""
    found: list[Array] = []
    for argument in arguments:
        if isinstance(argument, Struct):
            found += argument.pointers.values()
        elif isinstance(argument, np.ndarray):
            found.append(argument)
    return found


class Parameters:
    """`offsets` is where each parameter begins. `kinds` are as in `Kernel.parameters`."""

    def __init__(
        self, kinds: dict[str, str], arguments: Sequence[Argument], buffers: GlobalMemory
    ) -> None:
        self._addresses = iter(buffers.addresses)
        self.offsets: dict[str, int] = {}
        memory = bytearray()
        for (name, kind), argument in zip(kinds.items(), arguments, strict=True):
            memory += bytes(-len(memory) % _ALIGNMENT)
            self.offsets[name] = len(memory)
            memory += self._bytes(name, kind, argument)
        self._memory = np.frombuffer(bytes(memory), np.uint8)

    def load(self, address: Array, width: int) -> Array:
        """Bytes [n, width] from `address` [n] on."""
        if (address < 0).any() or (address + width > len(self._memory)).any():
            raise OutOfBounds(f"{width} bytes beyond the parameters")
        return self._memory[address[:, None] + np.arange(width)]

    def _bytes(self, name: str, kind: str, argument: Argument) -> bytes:
        if isinstance(argument, Struct):
            if kind != f"b8[{len(argument.data)}]":
                raise ValueError(f"{name}: got {len(argument.data)} bytes, the kernel has {kind}")
            data = bytearray(argument.data)
            for place in argument.pointers:
                data[place : place + 8] = int(next(self._addresses)).to_bytes(8, "little")
            return bytes(data)
        value = next(self._addresses) if isinstance(argument, np.ndarray) else argument
        dtype = DTYPES[kind]
        if isinstance(value, float) and dtype.kind != "f":
            dtype = np.dtype(f"float{8 * dtype.itemsize}")  # PTX calls it .b32
        if isinstance(value, int) and dtype.kind == "u":
            value &= (1 << 8 * dtype.itemsize) - 1
        return np.array([value], dtype).tobytes()
