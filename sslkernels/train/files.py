"""Files of a folder, decoded; those that cannot be are named and counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError
from sslkernels.train.workers import mapped

THREADS = 8
NAMED = 3  # files that a message names; it counts the others


@dataclass(frozen=True)
class Decoded:
    """kept: files with what is in them, in order; bad: the first of the others, each with the
    reason; note: how many there are of those, empty for none."""

    kept: list[tuple[Path, Tensor]]
    bad: str
    note: str


def decoded(
    paths: Sequence[Path],
    decode: Callable[[Path], Tensor | str],
    *,
    what: str,
    strict: bool,
    workers: int,
) -> Decoded:
    """Decode files in threads, or in `workers` processes.

    Args:
        decode: what is in a file, or why that cannot be read. With workers, of the top of a module.
        what: the files are, in the plural.

    Raises:
        TrainError: with strict, a file cannot be read; a worker has died.
    """
    if workers:
        # As numpy's: each tensor that comes from another process keeps a piece of shared memory.
        arrays = mapped(partial(_array, decode), paths, workers)
        found = [x if isinstance(x, str) else torch.from_numpy(x) for x in arrays]
    else:
        with ThreadPoolExecutor(THREADS) as pool:
            found = [*pool.map(decode, paths)]
    reasons = [f"{p} ({x})" for p, x in zip(paths, found, strict=True) if isinstance(x, str)]
    bad = listed(reasons)
    count = f"{len(reasons)} of {len(paths)} {what}"
    if reasons and strict:
        raise TrainError(f"{count} cannot be read: {bad}")
    kept = [(p, x) for p, x in zip(paths, found, strict=True) if isinstance(x, Tensor)]
    return Decoded(kept, bad, f"{count} skipped: {bad}" if reasons else "")


def listed(reasons: Sequence[str]) -> str:
    """The first of them, and how many more there are."""
    rest = f"; and {len(reasons) - NAMED} more" if len(reasons) > NAMED else ""
    return "; ".join(reasons[:NAMED]) + rest


def _array(decode: Callable[[Path], Tensor | str], path: Path) -> Any:
    found = decode(path)
    return found if isinstance(found, str) else found.numpy()
