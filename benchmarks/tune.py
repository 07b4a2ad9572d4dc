"""Measures tiles of the similarity kernels on a card, and keeps the fastest where they are read."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.errors import InputError, describe
from sslkernels.similarity.triton import configurations, operators, tuned

ROWS, WIDTHS = 4096, (128, 768)
GAIN = 0.98
"""A candidate replaces the default if it takes at most this share of its time."""

_TILES = ((128, 128), (128, 64), (64, 128), (64, 64), (32, 32))
_INNER = (16, 32, 64, 128)
_WARPS = (4, 8)
_STAGES = (1, 2, 3, 4)

Call = Callable[[], tuple[Tensor, ...]]
Timer = Callable[[Call], float]


@dataclass(frozen=True)
class Subject:
    """A call in which one kernel's tile is to be chosen; `key` is what it is chosen for."""

    kernel: str
    key: tuned.Key
    default: tuple[int, ...]
    call: Call


def candidates(subject: Subject) -> list[tuple[int, ...]]:
    """Tiles to try, the default first."""
    tiles = [tile for tile in _TILES if tile[0] == tile[1] or subject.kernel not in tuned.SQUARE]
    every = itertools.product(tiles, _INNER, _WARPS, _STAGES)
    found = [(*tile, inner, warps, stages) for tile, inner, warps, stages in every]
    return [subject.default, *(tile for tile in found if tile != subject.default)]


def tuned_tiles(
    subjects: Sequence[Subject], timer: Timer, say: Callable[[str], object]
) -> tuned.Tiles:
    """The fastest tile of each subject whose results are those of the default.

    A tile that does not compile or does not fit the card is passed over.
    """
    found: tuned.Tiles = {}
    for subject in subjects:
        default, *others = candidates(subject)
        with tuned.forced(subject.kernel, default):
            expected, best, seconds = subject.call(), default, timer(subject.call)
        usual, tried = seconds, 1
        for tile in others:
            try:
                with tuned.forced(subject.kernel, tile):
                    if not _same(subject.call(), expected):
                        say(f"{subject.key.kernel}: {tile} gives other results, left out")
                        continue
                    taken = timer(subject.call)
            except torch.AcceleratorError:
                raise  # the card is in no state to go on
            except Exception as error:  # the compiler has no one class of its own
                say(f"{subject.key.kernel}: {tile} left out, {describe(error)}")
                continue
            tried += 1
            if taken <= GAIN * usual and taken < seconds:
                best, seconds = tile, taken
        found[subject.key] = best
        name = f"{subject.kernel} {subject.key.dtype} {subject.key.width or 'any width'}"
        say(f"{name}: {best} of {tried}, {seconds / usual:.2f} of the default's time")
    return found


def keep(found: tuned.Tiles, out: Path | None) -> Path:
    """Add to what the file has, of other cards as well, and return its path."""
    file = out or tuned.path()
    try:
        before = tuned.load(file) if file.exists() else {}
    except ValueError as error:
        raise InputError(f"{file}: {error}; delete it, or give another with --out") from None
    tuned.save(file, before | found)
    return file


def median_seconds(call: Call) -> float:
    """Of one call on the card, caches flushed before each."""
    from triton.testing import do_bench

    return 1e-3 * float(do_bench(call, return_mode="median"))  # pyright: ignore[reportArgumentType]


def subjects(device: str, dtypes: Sequence[str], widths: Sequence[int]) -> list[Subject]:
    """Every kernel at every dtype and width.

    Raises:
        InputError: a dtype or a width that the kernels do not have.
    """
    for name in dtypes:
        if name not in tuned.DTYPES:
            raise InputError(f"--dtype: got {name!r}, wanted one of {', '.join(tuned.DTYPES)}")
    for width in widths:
        if width < 1:
            raise InputError(f"--features: must be at least 1, got {width}")
    torch.cuda.set_device(device)
    found: dict[tuned.Key, Subject] = {}
    for name, width in itertools.product(dtypes or tuned.DTYPES, widths or WIDTHS):
        dtype = tuned.DTYPES[name]
        for kernel, call in _calls(device, dtype, width).items():
            features = () if kernel in ("product", "owned") else (width,)
            default = getattr(configurations, kernel).__wrapped__(dtype, *features)
            key = tuned.key(kernel, dtype, *(features or (0,)))
            found[key] = Subject(kernel, key, tuple(default), call)
    return list(found.values())


def _calls(device: str, dtype: torch.dtype, width: int) -> dict[str, Call]:
    generator = torch.Generator(device).manual_seed(0)
    q, k = torch.randn(2, ROWS, width, generator=generator, device=device)
    q, k = (torch.nn.functional.normalize(x).to(dtype) for x in (q, k))
    scale, row = torch.full((), 10.0, device=device), torch.full((ROWS,), 1 / ROWS, device=device)
    both, alone = (q, k, scale, None, []), (q, None, scale, None, [0, ROWS // 2])
    lse = [operators.logsumexp_forward(*x, 0) for x in (both, alone)]

    def backward(of: int) -> tuple[Tensor, ...]:
        return operators.logsumexp_backward(row, lse[of], *(both, alone)[of], True, 0)

    def without_atomics() -> tuple[Tensor, ...]:
        before = torch.are_deterministic_algorithms_enabled()
        torch.use_deterministic_algorithms(True)
        try:
            return backward(1)
        finally:
            torch.use_deterministic_algorithms(before)

    calls: dict[str, Call] = {
        "forward": lambda: (operators.logsumexp_forward(*both, 0),),
        "gradient": lambda: backward(0),
        "product": lambda: backward(0),
        "symmetric": lambda: (operators.logsumexp_forward(*alone, 0),),
        "added": lambda: backward(1),
    }
    if width <= configurations.widest_owned(dtype):
        calls["owned"] = without_atomics
    return calls


def _same(found: tuple[Tensor, ...], expected: tuple[Tensor, ...]) -> bool:
    """Up to the order of sums: a part of the largest element."""
    return all(
        bool(
            ((x.float() - y.float()).abs() <= 0.02 * y.float().abs().amax()).all()
            if y.numel()
            else True
        )
        for x, y in zip(found, expected, strict=True)
    )
