"""Seeds made of several numbers."""

from __future__ import annotations

import hashlib


def fold(*parts: int | str) -> int:
    """One seed in 0..2**63 - 1 of many; neighbours have nothing in common."""
    digest = hashlib.blake2b(repr(parts).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
