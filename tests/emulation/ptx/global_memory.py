"""The buffers of a launch at addresses of their own, far from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.emulation.ptx.accesses import Accesses
from tests.emulation.ptx.errors import Misaligned, OutOfBounds, Race
from tests.emulation.ptx.formats import Array

_FIRST, _APART = 1 << 40, 1 << 36
"""Buffers are 64 GiB apart: an address that leaves one does not reach the next."""


class GlobalMemory:
    """Contiguous NumPy arrays, which `finish` writes back to. Blocks must not race on them."""

    def __init__(self, arrays: Sequence[Array]) -> None:
        self._arrays = arrays
        self.addresses = [_FIRST + number * _APART for number in range(len(arrays))]
        sizes = [array.nbytes for array in arrays]
        self._sizes = np.array([*sizes, 0], np.int64)
        self._starts = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
        pieces = [array.reshape(-1).view(np.uint8) for array in arrays]
        self._data = np.concatenate([*pieces, np.zeros(0, np.uint8)])
        self._accesses = Accesses(len(self._data), "block")

    def places(self, address: Array, width: int) -> Array:
        """Where `width` bytes from `address` [n] lie. Raises `OutOfBounds`, `Misaligned`."""
        if (address % width).any():
            raise Misaligned(f"{width} bytes at {int(address[address % width != 0][0]):#x}")
        number, offset = np.divmod(address - _FIRST, _APART)
        number = np.where((number < 0) | (number >= len(self._arrays)), -1, number)
        outside = offset + width > self._sizes[number]
        if outside.any():
            buffer, byte = int(number[outside][0]), int(offset[outside][0])
            near = f"byte {byte} of buffer {buffer}, which has {self._sizes[buffer]}"
            if buffer < 0 or byte > _APART // 2:
                near = f"address {int(address[outside][0]):#x}, in no buffer"
            raise OutOfBounds(f"{width} bytes at {near}")
        return (self._starts[number] + offset)[:, None] + np.arange(width)

    def load(self, at: Array, block: Array) -> Array:
        self._accesses.read(at, block)
        return self._data[at]

    def store(self, at: Array, data: Array, block: Array) -> None:
        self._accesses.write(at, block, self._data[at] == data)
        self._data[at] = data
        if (self._data[at] != data).any():
            raise Race("threads store different values to one byte at once")

    def update(self, at: Array, block: Array) -> None:
        """Notes atomic updates, whose values `peek` and `poke` move."""
        self._accesses.add(at, block)

    def peek(self, at: Array) -> Array:
        return self._data[at]

    def poke(self, at: Array, data: Array) -> None:
        self._data[at] = data

    def touched(self) -> tuple[int, int]:
        """Bytes that were read, and that were written, each counted once."""
        return self._accesses.touched()

    def finish(self) -> None:
        for array, start in zip(self._arrays, self._starts, strict=False):
            array.reshape(-1).view(np.uint8)[:] = self._data[start : start + array.nbytes]
