"""A page of one architecture: what each compiled kernel uses, and how many fit a multiprocessor."""

from __future__ import annotations

import json
from typing import Any

from benchmarks import text
from benchmarks.evidence.cards import CARDS
from benchmarks.evidence.tables import Rows, heading, users
from tests.emulation.occupancy import LIMITS, Occupancy, occupancy

_COLUMNS = [
    "used by",
    "warps",
    "stages",
    "registers",
    "shared KiB",
    "blocks",
    "occupancy",
    "limited by",
    "stack bytes",
    "spills",
    "matrix instructions",
]


def page(target: str, rows: Rows) -> str:
    """Each kernel has a table; configurations that use the same share a row."""
    limits = LIMITS[target]
    parts = [
        *heading(f"{target}: {CARDS[target].name} and its like"),
        f"Compiled by Triton and the vendor's assembler, without a GPU. A multiprocessor has "
        f"{limits.registers * 4 * limits.warp} registers, {limits.shared // 1024} KiB of shared "
        f"memory ({limits.shared_per_block // 1024} for a block) and room for {limits.warps} warps "
        f"of {limits.warp} threads in {limits.blocks} blocks. Occupancy is warps at a time over "
        "that, which these resources allow. Matrix instructions are those in the code, not those "
        "that run.",
    ]
    for kernel, used in _by_kernel(rows).items():
        lines = [[users(cases), *_cells(target, json.loads(row))] for row, cases in used.items()]
        parts += [f"## `{kernel}`", text.markdown_table(_COLUMNS, lines)]
    return "\n\n".join(parts) + "\n"


def _by_kernel(rows: Rows) -> dict[str, dict[str, list[str]]]:
    """Kernel to what it uses, as text, to the cases where it does."""
    found: dict[str, dict[str, list[str]]] = {}
    for case, kernels in rows.items():
        for row in kernels:
            used = found.setdefault(row["kernel"], {})
            used.setdefault(json.dumps(row, sort_keys=True), []).append(case)
    return found


def fits(target: str, row: dict[str, Any]) -> Occupancy:
    """The occupancy of a row of the table."""
    return occupancy(target, row["registers"], row["shared"], row["warps"])


def _cells(target: str, row: dict[str, Any]) -> list[str]:
    found = fits(target, row)
    matrix = ", ".join(f"{n} {kind}" for kind, n in row["matrix"].items())
    return [
        str(row["warps"]),
        str(row["stages"]),
        str(row["registers"]),
        text.significant(row["shared"] / 1024),
        str(found.blocks),
        f"{100 * found.share:.3g} %",
        found.limit,
        str(row["stack"]),
        str(row["spills"]),
        matrix or "none",
    ]
