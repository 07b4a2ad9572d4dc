"""The page of what the kernels move and multiply, counted while their sm_80 code was emulated."""

from __future__ import annotations

from typing import Any

from benchmarks import text
from benchmarks.evidence.cards import CARDS, roof
from benchmarks.evidence.tables import SECTOR, Rows, heading

_COLUMNS = [
    "used by",
    "tile",
    "programs",
    "Mflop",
    "KiB moved",
    "fewest",
    "moved / fewest",
    "flop/byte moved",
    "flop/byte at best",
    "wavefronts / fewest",
    "bound by",
]


def page(counted: Rows) -> str:
    """Each kernel has a table, each of its launches a row."""
    parts = [
        *heading("What the kernels move and multiply"),
        "The operators of `tests/emulation/shipped.py` at its sizes (512 x 768 rows, 500 x 777 "
        "where the width is 100; 512 rows where symmetric), as compiled for sm_80, run in the "
        "emulator of PTX. Other GPUs get the same products and the same fewest bytes; where their "
        "tiles are smaller, more is moved.",
        "- *Mflop*: multiplications and additions of the matrix instructions that ran; a float32 "
        "product is six of bfloat16.\n"
        "- *KiB moved*: sectors of 32 bytes between the multiprocessors and the second-level "
        "cache, atomic updates twice. *fewest*: every byte that was touched once.\n"
        "- *flop/byte*: arithmetic intensity, of the bytes moved, and of the fewest.\n"
        "- *wavefronts / fewest*: of shared memory; 1 is no bank conflict.\n"
        "- *bound by*: memory, where even the fewest bytes are too many for the card's published "
        "flop per byte; matrix units, where even the bytes moved are not; caches, where it depends "
        "on how much of the rest they hold. Larger matrices raise the flop/byte at best and leave "
        "that of the bytes moved as it is.",
    ]
    for kernel, launches in _by_kernel(counted).items():
        lines = [_cells(case, row) for case, row in launches]
        parts += [f"## `{kernel}`", text.markdown_table(_COLUMNS, lines, labels=2)]
    return "\n\n".join(parts) + "\n"


def _by_kernel(counted: Rows) -> dict[str, list[tuple[str, dict[str, Any]]]]:
    found: dict[str, list[tuple[str, dict[str, Any]]]] = {}
    for case, launches in counted.items():
        for row in launches:
            found.setdefault(row["kernel"], []).append((case, row))
    return found


def moved(row: dict[str, Any]) -> int:
    """Bytes of the sectors that were read and written."""
    return SECTOR * (row["sectors_read"] + row["sectors_written"])


def fewest(row: dict[str, Any]) -> int:
    """Bytes where each that was touched is moved once."""
    return row["touched_read"] + row["touched_written"]


def _cells(case: str, row: dict[str, Any]) -> list[str]:
    conflicts = row["wavefronts"] / row["fewest_wavefronts"] if row["wavefronts"] else None
    return [
        case,
        _tile(row["tile"]),
        str(row["programs"]),
        text.thousands(row["matrix_flops"] / 1e6),
        text.thousands(moved(row) / 1024),
        text.thousands(fewest(row) / 1024),
        text.significant(moved(row) / fewest(row)),
        text.thousands(row["matrix_flops"] / moved(row)),
        text.thousands(row["matrix_flops"] / fewest(row)),
        text.significant(conflicts) if conflicts else "none",
        _bounds(row),
    ]


def _tile(tile: dict[str, int]) -> str:
    """'M 128, N 64, D 64, 8 warps, 3 stages'."""
    sizes = [
        f"{name.removeprefix('BLOCK_')} {n}"
        for name, n in tile.items()
        if name not in ("warps", "stages")
    ]
    return ", ".join([*sizes, f"{tile['warps']} warps", f"{tile['stages']} stages"])


def _bounds(row: dict[str, Any]) -> str:
    """'memory', or 'memory: H100, B200; caches: A100' where the cards differ."""
    answers: dict[str, list[str]] = {}
    for card in CARDS.values():
        found = roof(card, row["matrix_flops"], moved(row), fewest(row))
        answers.setdefault(found, []).append(card.name.split()[0])
    if len(answers) == 1:
        return next(iter(answers))
    return "; ".join(f"{found}: {', '.join(cards)}" for found, cards in answers.items())
