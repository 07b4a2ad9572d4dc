"""Who touched each part of a memory since the last barrier, and whether that is a race.

A part is `unit` bytes, the fewest that an instruction of the kernel touches. Accesses are aligned:
each of them touches whole parts.
"""

from __future__ import annotations

import numpy as np

from tests.emulation.ptx.errors import Race
from tests.emulation.ptx.formats import Array


class Accesses:
    """Of `parties` that no order holds between, numbered from 0: warps, or blocks.

    Every method takes the places of one instruction [n], counted in its `width`, and `who` [n], and
    raises `Race` when another party touched one of them in a way that does not go with it.
    """

    def __init__(self, size: int, unit: int, parties: int, party: str) -> None:
        self._unit, self._party = unit, party
        self._round = parties + 1  # marks of the time between two barriers
        self._since = np.zeros(parties, np.int32)
        self._readers, self._writers, self._adders = (_Marks(size // unit) for _ in range(3))

    def read(self, at: Array, width: int, who: Array) -> None:
        parts, since = width // self._unit, self._since[who]
        self._refuse(self._writers.others(at, parts, who, since), "reads what", "wrote")
        self._refuse(self._adders.others(at, parts, who, since), "reads what", _UPDATED)
        self._readers.note(at, parts, who, since)

    def write(self, at: Array, width: int, who: Array, unchanged: Array | None = None) -> None:
        """Parties may write to one byte if they store the same: `unchanged` [n, width] has the
        bytes that already hold what comes."""
        parts, since = width // self._unit, self._since[who]
        written = self._writers.others(at, parts, who, since)
        if written is not None and unchanged is not None:
            written = written & ~unchanged.reshape(-1, parts, self._unit).all(2)
        self._refuse(written, "overwrites what", "wrote")
        self._refuse(self._readers.others(at, parts, who, since), "overwrites what", "read")
        self._refuse(self._adders.others(at, parts, who, since), "overwrites what", _UPDATED)
        self._writers.note(at, parts, who, since)

    def add(self, at: Array, width: int, who: Array) -> None:
        """An atomic update, which goes with others."""
        parts, since = width // self._unit, self._since[who]
        does = "updates atomically what"
        self._refuse(self._writers.others(at, parts, who, since), does, "wrote")
        self._refuse(self._readers.others(at, parts, who, since), does, "read")
        self._adders.note(at, parts, who, since)

    def barrier(self, parties: slice) -> None:
        """What these do from now on is in order with what they did before."""
        self._since[parties] = self._since.max() + self._round

    def touched(self) -> tuple[int, int]:
        """How many bytes were read, how many written or updated, each counted once; of a memory
        that has seen no barrier."""
        added = self._adders.anybody()
        read, written = (x.anybody() | added for x in (self._readers, self._writers))
        return self._unit * int(read.sum()), self._unit * int(written.sum())

    def _refuse(self, others: Array | None, does: str, did: str) -> None:
        if others is not None and others.any():
            raise Race(f"a {self._party} {does} another {did}, with no barrier between")


_UPDATED = "updated atomically"


class _Marks:
    """One way of touching: for each part of a memory who did.

    The mark of party w is `since` + 1 + w, and `since` of several; `since` grows with each barrier
    that the party comes to. What is below was before the barrier, or nobody's.
    """

    def __init__(self, parts: int) -> None:
        self._marks, self._used = np.full(parts, -1, np.int32), False

    def others(self, at: Array, parts: int, who: Array, since: Array) -> Array | None:
        """Whether another party than `who` [n] touched each of the parts [n, parts]; None: none."""
        if not self._used:
            return None
        earlier = self._marks.reshape(-1, parts).take(at, axis=0)
        return (earlier >= since[:, None]) & (earlier != _of(who, since)[:, None])

    def note(self, at: Array, parts: int, who: Array, since: Array) -> None:
        before = self.others(at, parts, who, since)
        marks, mark = self._marks.reshape(-1, parts), _of(who, since)
        marks[at] = mark[:, None]
        several = (marks[at, 0] != mark)[:, None]  # who come to one place together
        several = several if before is None else several | before
        if several.any():
            place, part = np.nonzero(np.broadcast_to(several, (len(at), parts)))
            marks[at[place], part] = since[place]
        self._used = True

    def anybody(self) -> Array:
        return self._marks >= 0


def _of(who: Array, since: Array) -> Array:
    return (since + who + 1).astype(np.int32)
