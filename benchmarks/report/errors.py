"""The section of errors against float64."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import label, operators
from benchmarks.report import plots
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import by_op, cells, drawings, shape_cell
from benchmarks.results import Results


def errors_section(run: Results) -> Section | None:
    """Errors of losses and gradients, a row for each implementation and kind of inputs."""
    rows = [
        [
            Cell(result.case.op),
            shape_cell(result, run),
            *cells(result.case.kind, error.inputs, label(result.case.op, error.implementation)),
            *cells(text.error(error.loss), text.error(error.gradient)),
        ]
        for result in run.cases
        for error in result.errors
    ]
    if not rows:
        return None
    known = operators()
    words = [
        "Against the same loss in float64 on the inputs as rounded to the dtype: relative error "
        "of the loss, and relative Frobenius error of all gradients together.",
        *(
            f"{op}: {known[op].input_note}."
            for op in by_op(run)
            if op in known and not known[op].random
        ),
    ]
    columns = ["op", "shape", "dtype", "inputs", "implementation", "loss", "gradient"]
    caption = "error against float64; filled: the first kind of inputs above, hollow: the second."
    table = Table(columns, rows, 5, folded=True)
    return Section("Error against float64", words, drawings(run, plots.errors, caption), [table])
