"""The section of peak memory."""

from __future__ import annotations

from dataclasses import replace

from benchmarks import text
from benchmarks.registry import FORWARD, eager_word, headline, label
from benchmarks.report import plots
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import by_op, by_unit, cells, drawings, shape_cell
from benchmarks.results import Results


def memory_section(run: Results) -> Section | None:
    """Peak extra memory of every implementation, and what was not weighed."""
    tables = [table for part in by_unit(run) if (table := _memory_table(part))]
    if not tables:
        return None
    methods = {m.method for result in run.cases for m in result.memory if m.method}
    words = [
        "Extra memory at the peak of one forward + backward, above the inputs and the gradients "
        "that every implementation returns. Each figure comes from a process of its own, "
        f"measured as {' or '.join(sorted(methods)) or 'nothing: no measurement succeeded'}; "
        "differences below about 1 MiB are noise. The seconds are one warm call there: for "
        "orientation only.",
        *(
            f"{op}: above the result, too; of the forward alone where no input takes a gradient."
            for op in by_op(run)
            if headline(op) == FORWARD
        ),
    ]
    caption = "peak extra memory of forward + backward against the number of rows, log-log."
    drawn = drawings(run, plots.memory, caption)
    folded = [replace(table, folded=bool(drawn)) for table in tables]
    return Section("Memory", words, drawn, folded)


def _memory_table(run: Results) -> Table | None:
    rows = []
    for result in run.cases:
        reasons = [(s.implementation, s.reason) for s in result.skipped if result.case.memory_only]
        for memory in result.memory:
            peak, percent, took = memory.peak_extra_bytes, memory.percent_of_eager, memory.seconds
            rows.append(
                [
                    Cell(result.case.op),
                    shape_cell(result, run),
                    *cells(result.case.kind, label(result.case.op, memory.implementation)),
                    Cell("-" if peak is None else text.size(peak)),
                    Cell("-" if percent is None else f"{text.significant(percent)} %"),
                    Cell("-" if took is None else text.seconds(took)),
                    Cell(memory.reason or ""),
                ]
            )
        for name, reason in reasons:
            rows.append(
                [
                    Cell(result.case.op),
                    shape_cell(result, run),
                    *cells(result.case.kind, label(result.case.op, name), "-", "-", "-", reason),
                ]
            )
    if not rows:
        return None
    eager = " or ".join(dict.fromkeys(f"{eager_word(op)}'s" for op in by_op(run)))
    columns = [
        "op",
        "shape",
        "dtype",
        "implementation",
        "peak extra",
        f"of {eager}",
        "one call",
        "why not",
    ]
    return Table(columns, rows, 4)
