"""The shared memory of blocks: bounds, races, reads before writes, copies under way."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.accesses import Accesses
from tests.emulation.ptx.errors import Misaligned, OutOfBounds, PendingCopy, Race, Unwritten
from tests.emulation.ptx.formats import Array


class SharedMemory:
    """`size` bytes for each of the blocks. Methods take flat places [n, width] from `places`."""

    def __init__(self, blocks: int, size: int) -> None:
        self._size = size
        self._data = np.full(blocks * size, 0xFF, np.uint8)
        self._written, self._pending = np.zeros((2, blocks * size), np.bool_)
        self._accesses = Accesses(blocks * size, "warp")

    def places(self, block: Array, address: Array, width: int) -> Array:
        """Where `width` bytes from `address` [n] lie. Raises `OutOfBounds`, `Misaligned`."""
        if (address % width).any():
            raise Misaligned(f"shared address {address[address % width != 0][0]}, {width} bytes")
        outside = (address < 0) | (address + width > self._size)
        if outside.any():
            raise OutOfBounds(
                f"shared address {address[outside][0]} of {width} bytes, block has {self._size}"
            )
        return (block * self._size + address)[:, None] + np.arange(width)

    def load(self, at: Array, warp: Array) -> Array:
        self._no_copy(at)
        if not self._written[at].all():
            raise Unwritten("shared memory is read that nothing was written to")
        self._accesses.read(at, warp)
        return self._data[at]

    def store(self, at: Array, data: Array, warp: Array) -> None:
        self._no_copy(at)
        self._accesses.write(at, warp, self._data[at] == data)
        self._data[at], self._written[at] = data, True
        if (self._data[at] != data).any():
            raise Race("threads store different values to one byte at once")

    def update(self, at: Array, warp: Array) -> None:
        """Notes atomic updates, whose values `peek` and `poke` move."""
        self._no_copy(at)
        if not self._written[at].all():
            raise Unwritten("shared memory is updated that nothing was written to")
        self._accesses.add(at, warp)

    def peek(self, at: Array) -> Array:
        return self._data[at]

    def poke(self, at: Array, data: Array) -> None:
        self._data[at] = data

    def begin_copy(self, at: Array, warp: Array) -> None:
        """From now to `end_copy` the bytes are anybody's guess."""
        self._no_copy(at)
        self._accesses.write(at, warp, np.zeros_like(at, np.bool_))
        self._pending[at] = True

    def end_copy(self, at: Array, data: Array, warp: Array) -> None:
        """The copy is complete for the warp that waited; others need a barrier."""
        self._accesses.write(at, warp, np.zeros_like(at, np.bool_))
        self._data[at], self._written[at], self._pending[at] = data, True, False

    def barrier(self, block: int) -> None:
        self._accesses.forget(slice(block * self._size, (block + 1) * self._size))

    def _no_copy(self, at: Array) -> None:
        if self._pending[at].any():
            raise PendingCopy("shared memory is touched before cp.async was waited for")
