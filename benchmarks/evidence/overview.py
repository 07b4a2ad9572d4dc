"""The first page: how to read the others, the roofs, and what holds of all kernels."""

from __future__ import annotations

from benchmarks import text
from benchmarks.evidence.cards import CARDS
from benchmarks.evidence.resources import fits
from benchmarks.evidence.tables import Rows, heading


def page(used: dict[str, Rows], counted: Rows) -> str:
    """A summary of each architecture, and where the figures come from."""
    targets = [
        [
            f"[{target}]({target}.md)",
            str(len({str(row) for row in rows})),
            str(max(row["registers"] for row in rows)),
            text.significant(max(row["shared"] for row in rows) / 1024),
            f"{100 * min(fits(target, row).share for row in rows):.3g} %",
            str(sum(row["spills"] + row["stack"] > 0 for row in rows)),
            ", ".join(sorted({kind for row in rows for kind in row["matrix"]})),
        ]
        for target, cases in used.items()
        for rows in [[row for kernels in cases.values() for row in kernels]]
    ]
    cards = [
        [
            card.name,
            target,
            text.thousands(card.teraflops),
            text.significant(card.terabytes),
            text.significant(card.flops_per_byte),
            card.source,
        ]
        for target, card in CARDS.items()
    ]
    launches = sum(len(rows) for rows in counted.values())
    missing = [case for case in used["sm_80"] if case not in counted]
    parts = [
        *heading("The kernels for GPUs: evidence without a GPU"),
        "Every configuration that the package launches by default, compiled for each architecture "
        "and held against a table by the tests (`pytest -m ladder`). How that is done, and what it "
        "cannot see, is in `tests/emulation/README.md`.",
        text.markdown_table(
            [
                "architecture",
                "kernels",
                "most registers",
                "most shared KiB",
                "least occupancy",
                "with spills or stack",
                "matrix instructions",
            ],
            targets,
        ),
        f"[counts.md](counts.md) has {launches} launches of {len(counted)} calls, run in an "
        "emulator: bytes against the fewest possible, arithmetic intensity, bank conflicts, and "
        "which roof bounds each.",
        "## The roofs",
        "Dense 16-bit products with float32 sums, and the memory's bandwidth, as published:",
        text.markdown_table(
            ["card", "architecture", "Tflop/s", "TB/s", "flop per byte", "source"], cards
        ),
        "## Occupancy",
        "From registers, shared memory, warps and blocks, by the formulas and limits of "
        "`tests/emulation/occupancy.py`, which agree with NVIDIA's `cuda_occupancy.h`. Kernels of "
        "products want registers for their sums more than many warps: 128 x 128 sums of float32 "
        "are a quarter of a multiprocessor's registers.",
    ]
    if missing:
        parts.append(f"Compiled, but not counted: {', '.join(missing)}.")
    return "\n\n".join(parts) + "\n"
