"""The section of how many matrix products each implementation executes, and at what rate."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import BOTH, operators
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import cells, shape_cell, timed_cases, timings_in
from benchmarks.results import CaseResult, Results


def products_section(run: Results) -> Section | None:
    """A row for each implementation whose products are known."""
    rows = [row for result in timed_cases(run) for row in _rows(result, run)]
    if not rows:
        return None
    words = [
        "What forward + backward executes, beside what is counted as useful for everybody, in "
        "products as described above. Percent of GEMM is here of all that is executed: how well "
        "the matrix unit is driven, useful or not. Of sslkernels it is what its documentation "
        "says, of the others what their code multiplies."
    ]
    columns = ["op", "shape", "dtype", "implementation", "products", "useful", "GF/s", "of GEMM"]
    return Section("Matrix products", words, [], [Table(columns, rows, 4)])


def _rows(result: CaseResult, run: Results) -> list[list[Cell]]:
    case = result.case
    op = operators().get(case.op)
    unit = op.unit(case) if op else None
    if op is None or unit is None:
        return []
    units = {one.name: one for one in op.implementations if one.units is not None}
    useful = op.work(case, BOTH) / unit
    rows = []
    for name, timing in timings_in(result, BOTH).items():
        if name not in units or timing.gflops is None:
            continue
        executed = units[name].units or useful
        more = executed / useful
        percent = timing.gemm_percent
        rows.append(
            [
                Cell(case.op),
                shape_cell(result, run),
                *cells(case.kind, units[name].label, f"{executed:g}", f"{useful:g}"),
                Cell(text.significant(more * timing.gflops)),
                Cell("-" if percent is None else f"{more * percent:.0f} %"),
            ]
        )
    return rows
