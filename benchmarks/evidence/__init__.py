"""What is known of the kernels for GPUs without a GPU: resources and counts, as Markdown pages.

The figures come from the tables of `tests/emulation`, which the tests of the ladder keep true. The
tools that fill those tables stay there: they are tests first, live in a checkout as this package
does, and need nothing of it.
"""

from __future__ import annotations

from pathlib import Path

from benchmarks.evidence import counts, overview, resources
from benchmarks.evidence.tables import counted_table, resource_table
from benchmarks.results import write_atomically

FOLDER = Path(__file__).resolve().parents[1] / "results" / "evidence"


def pages() -> dict[str, str]:
    """Every page by its file name.

    Raises:
        InputError: this is no checkout of the repository, whose tests hold the tables.
    """
    used, counted = resource_table(), counted_table()
    found = {
        "README.md": overview.page(used, counted),
        "counts.md": counts.page(counted),
    }
    return found | {f"{target}.md": resources.page(target, used[target]) for target in used}


def write_evidence(folder: Path) -> list[Path]:
    """Write the pages into `folder` and return their paths."""
    written = []
    for name, page in pages().items():
        write_atomically(folder / name, page)
        written.append(folder / name)
    return written
