"""The table of what every shipped launch moves and multiplies, counted in the emulator of PTX.

`python -m tests.emulation.counted` prints it, with `--write` it replaces `counts.json`; names of
cases after that restrict both to them. The sizes are those of `shipped`, the code that of sm_80.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from tests.emulation.ptx.launches import TARGET, Launched, emulated

TABLE = Path(__file__).with_name("counts.json")


def measured(chosen: Iterable[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Case to its launches in order, each a row of the table; all cases unless some are named."""
    from tests.emulation import shipped

    calls = shipped.cases(TARGET)
    rows = {}
    for name in list(chosen) or calls:
        with emulated() as found:
            calls[name]()
        rows[name] = [_row(launched) for launched in found]
    return rows


def _row(launched: Launched) -> dict[str, Any]:
    counts = launched.counts
    kept = dataclasses.asdict(counts)
    del kept["instructions"]
    return {
        "kernel": launched.kernel,
        "tile": launched.tile,
        "programs": launched.programs,
        "matrix_instructions": counts.matrix_instructions(),
        "matrix_flops": counts.matrix_flops(),
        **kept,
    }


def growth(rows: dict[str, list[dict[str, Any]]], table: dict[str, Any]) -> list[str]:
    """What moves more, multiplies more or has more bank conflicts than the table says."""
    found = []
    for case, launches in rows.items():
        known = table.get(case, [])
        if [x["kernel"] for x in launches] != [x["kernel"] for x in known]:
            found.append(f"{case}: the launches are not those of the table")
            continue
        found += [
            f"{case}, {row['kernel']}: {name} grew from {before[name]} to {row[name]}"
            for row, before in zip(launches, known, strict=True)
            for name in row
            if isinstance(row[name], int) and row[name] > before[name]
        ]
    return found


def main(arguments: list[str]) -> None:
    chosen = [x for x in arguments if x != "--write"]
    rows = measured(chosen)
    if "--write" in arguments:
        table = json.loads(TABLE.read_text()) if chosen and TABLE.exists() else {}
        lines = (
            f" {json.dumps(name)}: [\n  {_lines(launches)}\n ]"
            for name, launches in sorted((table | rows).items())
        )
        TABLE.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    else:
        print(json.dumps(rows))


def _lines(launches: list[dict[str, Any]]) -> str:
    return ",\n  ".join(json.dumps(launch) for launch in launches)


if __name__ == "__main__":
    main(sys.argv[1:])
