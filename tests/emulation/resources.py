"""The table of what every shipped configuration uses on every GPU.

`python -m tests.emulation.resources TARGET ...` prints it, with `--write` it replaces what
`resources.json` says of those targets. The tests compare the two.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.emulation import offline
from tests.emulation.shipped_inputs import POINTWISE

TABLE = Path(__file__).with_name("resources.json")
SHARED_LIMIT = {
    "sm_80": 163 * 1024,
    "sm_90": 227 * 1024,
    "sm_100": 227 * 1024,
    "gfx90a": 64 * 1024,
    "gfx942": 64 * 1024,
}
"""Bytes of shared memory that one program may have."""


def measured(target: str) -> dict[str, list[dict[str, Any]]]:
    """Case to its kernels in order of launch, each a row of the table."""
    from tests.emulation import shipped

    rows = {}
    for name, call in shipped.cases(target).items():
        kernels = offline.compiled(call, target)
        rows[name] = [{"kernel": x.kernel, **x.table_row()} for x in kernels]
    return rows


def problems(target: str, rows: dict[str, list[dict[str, Any]]], table: Any) -> list[str]:
    """What is wrong with the rows: absolute faults, and growth against the table."""
    found = []
    if rows.keys() != table.keys():
        found.append(f"{target}: the cases are not those of the table")
    for case, kernels in rows.items():
        known = table.get(case, [])
        if len(kernels) != len(known):
            found.append(f"{target}, {case}: {len(kernels)} kernels, {len(known)} in the table")
        for position, row in enumerate(kernels):
            where = f"{target}, {case}, {row['kernel']}"
            found += [f"{where}: {fault}" for fault in _faults(target, row)]
            if position < len(known):
                found += [f"{where}: {growth}" for growth in _growth(row, known[position])]
    return found


def _faults(target: str, row: dict[str, Any]) -> list[str]:
    faults = [f"{row[name]} of {name}" for name in ("stack", "spills") if row[name]]
    if not row["matrix"] and row["kernel"] not in POINTWISE:
        faults.append("no matrix instruction")
    if row["shared"] > SHARED_LIMIT[target]:
        faults.append(f"{row['shared']} bytes of shared memory, more than the GPU has")
    return faults


def _growth(row: dict[str, Any], known: dict[str, Any]) -> list[str]:
    return [
        f"{name} grew from {known[name]} to {row[name]}"
        for name in ("registers", "shared", "stack", "spills")
        if row[name] > known[name]
    ]


def main(arguments: list[str]) -> None:
    targets = [x for x in arguments if x != "--write"] or list(offline.TARGETS)
    rows = {target: measured(target) for target in targets}
    if "--write" in arguments:
        table = json.loads(TABLE.read_text()) if TABLE.exists() else {}
        TABLE.write_text(json.dumps(table | rows, indent=1, sort_keys=True) + "\n")
    else:
        print(json.dumps(rows))


if __name__ == "__main__":
    main(sys.argv[1:])
