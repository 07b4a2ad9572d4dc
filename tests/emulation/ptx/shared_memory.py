"""The shared memory of blocks: bounds, races, reads before writes, copies under way."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.accesses import Accesses
from tests.emulation.ptx.errors import Misaligned, OutOfBounds, PendingCopy, Race, Unwritten
from tests.emulation.ptx.formats import WIDEST, Array, fetched, put


class SharedMemory:
    """`size` bytes for each of the blocks, whose warps must not race.

    `unit` is the fewest bytes that an instruction touches. Methods take places [n] from `places`,
    counted in the `width` of the access.
    """

    def __init__(self, blocks: int, size: int, unit: int, warps: int) -> None:
        self._size, self._warps = size, warps
        self._apart = -(-size // WIDEST) * WIDEST
        self._data = np.full(blocks * self._apart, 0xFF, np.uint8)
        self._written, self._pending = np.zeros((2, blocks * self._apart), np.uint8)
        self._copies = 0
        self._accesses = Accesses(blocks * self._apart, unit, blocks * warps, "warp")

    def places(self, block: Array, address: Array, width: int) -> Array:
        """Where `width` bytes from `address` [n] lie. Raises `OutOfBounds`, `Misaligned`."""
        if (address & (width - 1)).any():
            raise Misaligned(f"shared address {address[address % width != 0][0]}, {width} bytes")
        outside = (address < 0) | (address + width > self._size)
        if outside.any():
            raise OutOfBounds(
                f"shared address {address[outside][0]} of {width} bytes, block has {self._size}"
            )
        return (block * self._apart + address) // width

    def load(self, at: Array, width: int, warp: Array) -> Array:
        self._no_copy(at, width)
        if not fetched(self._written, at, width).all():
            raise Unwritten("shared memory is read that nothing was written to")
        self._accesses.read(at, width, warp)
        return self.peek(at, width)

    def store(self, at: Array, data: Array, warp: Array) -> None:
        width = data.shape[1]
        self._no_copy(at, width)
        self._accesses.write(at, width, warp, self.peek(at, width) == data)
        self.poke(at, data)
        put(self._written, at, np.ones_like(data))
        if (self.peek(at, width) != data).any():
            raise Race("threads store different values to one byte at once")

    def update(self, at: Array, width: int, warp: Array) -> None:
        """Notes atomic updates, whose values `peek` and `poke` move."""
        self._no_copy(at, width)
        if not fetched(self._written, at, width).all():
            raise Unwritten("shared memory is updated that nothing was written to")
        self._accesses.add(at, width, warp)

    def peek(self, at: Array, width: int) -> Array:
        """Bytes [n, width]."""
        return fetched(self._data, at, width)

    def poke(self, at: Array, data: Array) -> None:
        put(self._data, at, data)

    def begin_copy(self, at: Array, width: int, warp: Array) -> None:
        """From now to `end_copy` the bytes are anybody's guess."""
        self._no_copy(at, width)
        self._accesses.write(at, width, warp)
        put(self._pending, at, np.ones((len(at), width), np.uint8))
        self._copies += len(at)

    def end_copy(self, at: Array, data: Array, warp: Array) -> None:
        """The copy is complete for the warp that waited; others need a barrier."""
        self._accesses.write(at, data.shape[1], warp)
        self.poke(at, data)
        put(self._written, at, np.ones_like(data))
        put(self._pending, at, np.zeros_like(data))
        self._copies -= len(at)

    def barrier(self, block: int) -> None:
        self._accesses.barrier(slice(block * self._warps, (block + 1) * self._warps))

    def _no_copy(self, at: Array, width: int) -> None:
        if self._copies and fetched(self._pending, at, width).any():
            raise PendingCopy("shared memory is touched before cp.async was waited for")
