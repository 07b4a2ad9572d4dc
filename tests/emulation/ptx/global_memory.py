"""The buffers of a launch at addresses of their own, far from each other."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tests.emulation.ptx.accesses import Accesses
from tests.emulation.ptx.errors import Misaligned, OutOfBounds, Race
from tests.emulation.ptx.formats import WIDEST, Array, fetched, put

_FIRST, _APART = 1 << 40, 1 << 36
"""Buffers are 64 GiB apart: an address that leaves one does not reach the next."""


class GlobalMemory:
    """Contiguous NumPy arrays, which `finish` writes back to. Blocks must not race on them.

    `unit` is the fewest bytes that an instruction touches, `blocks` how many there are.
    """

    def __init__(self, arrays: Sequence[Array], unit: int = 1, blocks: int = 1) -> None:
        self._arrays = arrays
        self.addresses = [_FIRST + number * _APART for number in range(len(arrays))]
        sizes = [array.nbytes for array in arrays]
        self._sizes = np.array([*sizes, 0], np.int64)
        aligned = [-(-size // WIDEST) * WIDEST for size in sizes]
        self._starts = np.concatenate([[0], np.cumsum(aligned)]).astype(np.int64)
        self._data = np.zeros(int(self._starts[-1]), np.uint8)
        for array, start in zip(arrays, self._starts, strict=False):
            self._data[start : start + array.nbytes] = array.reshape(-1).view(np.uint8)
        self._accesses = Accesses(len(self._data), unit, blocks, "block")

    def places(self, address: Array, width: int) -> Array:
        """Where `width` bytes from `address` [n] lie, counted in `width`. Raises `OutOfBounds`,
        `Misaligned`."""
        if (address & (width - 1)).any():
            raise Misaligned(f"{width} bytes at {int(address[address % width != 0][0]):#x}")
        number, offset = (address - _FIRST) // _APART, (address - _FIRST) % _APART
        number = np.where((number < 0) | (number >= len(self._arrays)), -1, number)
        outside = offset + width > self._sizes[number]
        if outside.any():
            buffer, byte = int(number[outside][0]), int(offset[outside][0])
            near = f"byte {byte} of buffer {buffer}, which has {self._sizes[buffer]}"
            if buffer < 0 or byte > _APART // 2:
                near = f"address {int(address[outside][0]):#x}, in no buffer"
            raise OutOfBounds(f"{width} bytes at {near}")
        return (self._starts[number] + offset) // width

    def load(self, at: Array, width: int, block: Array) -> Array:
        self._accesses.read(at, width, block)
        return self.peek(at, width)

    def store(self, at: Array, data: Array, block: Array) -> None:
        width = data.shape[1]
        self._accesses.write(at, width, block, self.peek(at, width) == data)
        self.poke(at, data)
        if (self.peek(at, width) != data).any():
            raise Race("threads store different values to one byte at once")

    def update(self, at: Array, width: int, block: Array) -> None:
        """Notes atomic updates, whose values `peek` and `poke` move."""
        self._accesses.add(at, width, block)

    def peek(self, at: Array, width: int) -> Array:
        """Bytes [n, width]."""
        return fetched(self._data, at, width)

    def poke(self, at: Array, data: Array) -> None:
        put(self._data, at, data)

    def touched(self) -> tuple[int, int]:
        """Bytes that were read, and that were written, each counted once."""
        return self._accesses.touched()

    def finish(self) -> None:
        for array, start in zip(self._arrays, self._starts, strict=False):
            array.reshape(-1).view(np.uint8)[:] = self._data[start : start + array.nbytes]
