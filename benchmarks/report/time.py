"""The section of every timing."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import OURS, headline, label
from benchmarks.report import plots
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import (
    by_op,
    by_unit,
    cells,
    drawings,
    has_bytes,
    items_made,
    percent_of_rate,
    ratio_cell,
    shape_cell,
    timed_cases,
)
from benchmarks.results import Results


def time_section(run: Results) -> Section | None:
    """Every timing in every mode."""
    tables = [_time_table(part) for part in by_unit(run) if timed_cases(part)]
    if not tables:
        return None
    modes = " and of ".join(dict.fromkeys(text.mode(headline(op)) for op in by_op(run)))
    caption = f"median seconds of {modes} against the number of rows, log-log."
    words = [
        "Every round runs each implementation once in a random order, in one process, with the "
        "garbage collector off; short calls are repeated within a round.",
    ]
    return Section("Time", words, drawings(run, plots.times, caption), tables)


def _time_table(run: Results) -> Table:
    counts_bytes = has_bytes(run)
    rows = []
    for result in timed_cases(run):
        for timing in result.timings:
            case = result.case
            rate = timing.gbytes_per_second if counts_bytes else timing.gflops
            percent = percent_of_rate(timing)
            made = [items_made(timing, case.op)] if counts_bytes else []
            rows.append(
                [
                    Cell(case.op),
                    shape_cell(result, run),
                    *cells(case.kind, timing.mode, label(case.op, timing.implementation)),
                    Cell(
                        text.seconds(timing.median),
                        f"{text.seconds(timing.p20)} to {text.seconds(timing.p80)}",
                    ),
                    ratio_cell(timing) if timing.implementation != OURS else Cell("1"),
                    *cells(*made, "-" if rate is None else text.significant(rate), percent),
                    Cell(str(timing.rounds)),
                ]
            )
    columns = [
        "op",
        "shape",
        "dtype",
        "mode",
        "implementation",
        "median (p20 to p80)",
        "time / ours",
        *(["made", "GB/s", "of copy"] if counts_bytes else ["useful GF/s", "of GEMM"]),
        "rounds",
    ]
    return Table(columns, rows, 5, folded=True)
