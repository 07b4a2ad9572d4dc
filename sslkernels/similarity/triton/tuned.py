"""Tiles that `python -m benchmarks tune` measured on this card, which replace the defaults.

They are kept as JSON in `$SSLKERNELS_TILES`, else in `sslkernels/tiles.json` below
`$XDG_CACHE_HOME`, else below `~/.cache`. An entry serves the card, the Triton version, the kernel,
the dtype and the width that it was measured for, widths rounded up to a power of two. The file is
read once in a process; one that is not as it should be is left aside with a warning.
"""

from __future__ import annotations

import contextlib
import functools
import json
import os
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch

KERNELS = ("forward", "gradient", "product", "symmetric", "added", "owned")
SQUARE = ("symmetric", "added")
DTYPES = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
FIELDS = ("rows", "columns", "inner", "warps", "stages")
FORMAT = "sslkernels-tiles 1"

_SIZES = (16, 32, 64, 128, 256)
_ALLOWED = {"warps": (1, 2, 4, 8, 16), "stages": tuple(range(1, 9))}


class Key(NamedTuple):
    """What a tile was measured for; `width` is 0 for kernels that do not depend on it."""

    card: str
    triton: str
    kernel: str
    dtype: str
    width: int


Tiles = dict[Key, tuple[int, ...]]
"""The tile of each, in the order of `FIELDS`."""

_forced: dict[str, tuple[int, ...]] = {}


def find(kernel: str, dtype: torch.dtype, features: int) -> tuple[int, ...] | None:
    """The tile in the order of `FIELDS`, or None where nothing was measured for this card."""
    if kernel in _forced:
        return _forced[kernel]
    if not torch.cuda.is_available() or not (known := _known()):
        return None
    return known.get(key(kernel, dtype, features))


def key(kernel: str, dtype: torch.dtype, features: int) -> Key:
    """Of the current device."""
    import triton

    width = 1 << (features - 1).bit_length() if features else 0
    card = torch.cuda.get_device_name()
    return Key(card, triton.__version__, kernel, str(dtype).removeprefix("torch."), width)


@contextlib.contextmanager
def forced(kernel: str, tile: tuple[int, ...]) -> Iterator[None]:
    """Inside, every call of a kernel takes this tile: how candidates are measured."""
    _forced[kernel] = tile
    try:
        yield
    finally:
        del _forced[kernel]


def path() -> Path:
    """Where tiles are kept."""
    if given := os.environ.get("SSLKERNELS_TILES"):
        return Path(given).expanduser()
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "sslkernels" / "tiles.json"


def load(file: Path) -> Tiles:
    """The tiles of a file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it is not what `save` writes; the message says where.
    """
    content = json.loads(file.read_text())
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError(f"wanted {FORMAT!r} as its format")
    entries = content.get("tiles")
    if not isinstance(entries, list):
        raise ValueError("wanted a list of tiles")
    return dict(_entry(number, entry) for number, entry in enumerate(entries))


def save(file: Path, tiles: Tiles) -> None:
    """Write a file for `load`, whole or not at all."""
    entries = [
        {**name._asdict(), **dict(zip(FIELDS, tile, strict=True))} for name, tile in tiles.items()
    ]
    file.parent.mkdir(parents=True, exist_ok=True)
    aside = file.with_name(f".{file.name}.{os.getpid()}")
    aside.write_text(json.dumps({"format": FORMAT, "tiles": entries}, indent=1) + "\n")
    aside.replace(file)
    _known.cache_clear()


def _entry(number: int, entry: Any) -> tuple[Key, tuple[int, ...]]:
    wanted = {*Key._fields, *FIELDS}
    if not isinstance(entry, dict) or entry.keys() != wanted:
        raise ValueError(f"tile {number}: wanted the fields {', '.join(sorted(wanted))}")
    texts = [x for x in Key._fields if x != "width"]
    if not all(type(entry[x]) is str for x in texts) or type(entry["width"]) is not int:
        raise ValueError(f"tile {number}: wanted text as {', '.join(texts)}, a number as width")
    problem = ""
    if entry["kernel"] not in KERNELS or entry["dtype"] not in DTYPES:
        problem = f"no kernel {entry['kernel']!r} of {entry['dtype']!r}"
    for name in FIELDS:
        if type(entry[name]) is not int or entry[name] not in _ALLOWED.get(name, _SIZES):
            problem = f"{name} is {entry[name]!r}, wanted one of {_ALLOWED.get(name, _SIZES)}"
    if entry["kernel"] in SQUARE and entry["rows"] != entry["columns"]:
        problem = f"{entry['kernel']} takes square tiles"
    if problem:
        raise ValueError(f"tile {number}: {problem}")
    return Key(*(entry[x] for x in Key._fields)), tuple(entry[x] for x in FIELDS)


@functools.cache
def _known() -> Tiles:
    file = path()
    if not file.exists():
        return {}
    try:
        return load(file)
    except (OSError, ValueError) as error:
        warnings.warn(
            f"sslkernels: {file} is left aside, the default tiles are used: {error}",
            RuntimeWarning,
            stacklevel=5,
        )
        return {}
