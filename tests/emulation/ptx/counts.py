"""What a launch moved: bytes, sectors of global memory, wavefronts of shared memory."""

from __future__ import annotations

import dataclasses
import math
import re
from collections import Counter

import numpy as np

from tests.emulation.ptx.formats import Array

_PRODUCT = re.compile(r"^mma\..*\.m(\d+)n(\d+)k(\d+)\.")
_SECTOR, _BANKS, _BANK_WIDTH = 32, 32, 4


@dataclasses.dataclass
class Counts:
    """Instructions are counted once a warp. A sector is 32 aligned bytes that one instruction of a
    warp touches. Shared memory serves a wavefront at a time, from each of 32 banks one word;
    `fewest_wavefronts` is how many there would be without bank conflicts. `touched_read` and
    `touched_written` count each byte of global memory once: no order of work moves fewer."""

    instructions: Counter[str] = dataclasses.field(default_factory=Counter)
    bytes_read: int = 0
    bytes_written: int = 0
    sectors_read: int = 0
    sectors_written: int = 0
    touched_read: int = 0
    touched_written: int = 0
    wavefronts: int = 0
    fewest_wavefronts: int = 0

    def matrix_instructions(self) -> int:
        return sum(n for op, n in self.instructions.items() if op.startswith("mma."))

    def matrix_flops(self) -> int:
        """Multiplications and additions of the matrix units."""
        shapes = ((n, _PRODUCT.search(op)) for op, n in self.instructions.items())
        return sum(2 * n * math.prod(map(int, found.groups())) for n, found in shapes if found)

    def global_read(self, warp: Array, address: Array, width: int) -> None:
        self.bytes_read += width * len(address)
        self.sectors_read += _sectors(warp, address, width)

    def global_write(self, warp: Array, address: Array, width: int) -> None:
        self.bytes_written += width * len(address)
        self.sectors_written += _sectors(warp, address, width)

    def shared_access(
        self, warp: Array, lane: Array, address: Array, width: int, repeats: int = 1
    ) -> None:
        """`repeats`: the lanes are those of so many blocks, each of which has the same."""
        each = address.reshape(repeats, -1)
        if repeats > 1 and (each == each[0]).all():
            one = slice(each.shape[1])
            warp, lane, address = warp[one], lane[one], address[one]
        else:
            repeats = 1
        wavefronts, fewest = wavefronts_of(warp, lane, address, width)
        self.wavefronts += repeats * wavefronts
        self.fewest_wavefronts += repeats * fewest


def wavefronts_of(warp: Array, lane: Array, address: Array, width: int) -> tuple[int, int]:
    """Wavefronts of one instruction, and the fewest: 128 bytes at a time, of lanes in order."""
    if not len(address):
        return 0, 0
    words = max(width // _BANK_WIDTH, 1)
    lanes_each = _BANKS // words
    group = warp * words + lane // lanes_each
    word = (address // _BANK_WIDTH)[:, None] + np.arange(words)
    touched = np.unique(group[:, None] << 32 | word)
    group, bank = touched >> 32, touched % _BANKS
    used, conflicts = np.unique(group * _BANKS + bank, return_counts=True)
    most = np.zeros(int(group.max()) + 1, np.int64)
    np.maximum.at(most, used // _BANKS, conflicts)
    return int(most.sum()), int(np.count_nonzero(most))


def _sectors(warp: Array, address: Array, width: int) -> int:
    """An aligned access lies in one sector, having at most 16 bytes."""
    touched = warp << 48 | address // _SECTOR
    if (touched[1:] < touched[:-1]).any():
        touched = np.sort(touched)
    return len(touched) and 1 + int(np.count_nonzero(touched[1:] != touched[:-1]))
