"""Who touched each byte of a memory since the last barrier, and whether that is a race."""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.errors import Race
from tests.emulation.ptx.formats import Array

_NOBODY = -1
_SEVERAL = -2


class Accesses:
    """`who` numbers the parties that no order holds between: warps, or blocks.

    Every method takes the bytes [n, width] of one instruction and `who` [n], and raises `Race` when
    another party touched one of them in a way that does not go with it.
    """

    def __init__(self, size: int, party: str) -> None:
        self._party = party
        self._reader, self._writer, self._adder = np.full((3, size), _NOBODY, np.int32)

    def read(self, at: Array, who: Array) -> None:
        self._refuse(who, self._writer[at], "reads what", "wrote")
        self._refuse(who, self._adder[at], "reads what", "updated atomically")
        self._note(self._reader, at, who)

    def write(self, at: Array, who: Array, unchanged: Array) -> None:
        """Parties may write to one byte if they store the same: `unchanged` [n, width] has the
        bytes that already hold what comes."""
        written = np.where(unchanged, _NOBODY, self._writer[at])
        self._refuse(who, written, "overwrites what", "wrote")
        self._refuse(who, self._reader[at], "overwrites what", "read")
        self._refuse(who, self._adder[at], "overwrites what", "updated atomically")
        self._note(self._writer, at, who)

    def add(self, at: Array, who: Array) -> None:
        """An atomic update, which goes with others."""
        self._refuse(who, self._writer[at], "updates atomically what", "wrote")
        self._refuse(who, self._reader[at], "updates atomically what", "read")
        self._note(self._adder, at, who)

    def forget(self, part: slice) -> None:
        """A barrier: what comes after it is in order with what came before."""
        for owner in (self._reader, self._writer, self._adder):
            owner[part] = _NOBODY

    def touched(self) -> tuple[int, int]:
        """How many bytes were read, how many written or updated, each counted once."""
        read = (self._reader != _NOBODY) | (self._adder != _NOBODY)
        written = (self._writer != _NOBODY) | (self._adder != _NOBODY)
        return int(read.sum()), int(written.sum())

    def _refuse(self, who: Array, earlier: Array, does: str, did: str) -> None:
        if ((earlier != _NOBODY) & (earlier != who[:, None])).any():
            raise Race(f"a {self._party} {does} another {did}, with no barrier between")

    def _note(self, owner: Array, at: Array, who: Array) -> None:
        earlier = owner[at]
        owner[at] = who[:, None]
        others = (owner[at] != who[:, None]) | ((earlier != _NOBODY) & (earlier != who[:, None]))
        owner[at[others]] = _SEVERAL
