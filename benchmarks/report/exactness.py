"""The section of errors of what draws at random."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import label, operators
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import by_op, cells
from benchmarks.results import Results


def exactness_section(run: Results) -> Section | None:
    """A table for each case that has one: stages down, implementations across."""
    tables = []
    words = [
        "Everybody is given the same draws. The largest absolute difference, of pixels in 0 ... 1 "
        "before normalisation, from float64."
    ]
    known = operators()
    for op, part in by_op(run).items():
        found = [result for result in part.cases if result.exactness]
        if found and op in known:
            words.append(f"{op}: {known[op].input_note}.")
        for result in found:
            by_place = {(one.stage, one.implementation): one for one in result.exactness}
            names = list(dict.fromkeys(one.implementation for one in result.exactness))
            rows = []
            for stage in dict.fromkeys(one.stage for one in result.exactness):
                errors = [by_place.get((stage, name)) for name in names]
                rows.append(
                    [
                        *cells(op, result.case.shape_text, stage),
                        *(
                            Cell("-") if c is None or c.error is None else Cell(text.error(c.error))
                            for c in errors
                        ),
                    ]
                )
            tables.append(Table(["op", "shape", "stage", *(label(op, n) for n in names)], rows, 3))
            reasons = {(one.implementation, one.reason) for one in result.exactness if one.reason}
            words += [f"{label(op, name)}: {reason}." for name, reason in sorted(reasons)]
    if not tables:
        return None
    return Section("Exactness", list(dict.fromkeys(words)), [], tables)
