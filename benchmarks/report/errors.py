"""The section of errors against float64."""

from __future__ import annotations

from benchmarks import real, text
from benchmarks.accuracy import Error
from benchmarks.registry import LossBenchmark, label, operators
from benchmarks.report import plots
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import by_op, cells, drawings, shape_cell
from benchmarks.results import Results

NUMBERS = (
    "Where a scale or a bias is learnt, its gradient stands apart: the largest relative error of "
    "such single numbers."
)


def errors_section(run: Results) -> Section | None:
    """Errors of losses and gradients, a row for each implementation and kind of inputs."""
    has_numbers = any(e.scalars is not None for result in run.cases for e in result.errors)
    rows = [
        [
            Cell(result.case.op),
            shape_cell(result, run),
            *cells(result.case.kind, error.inputs, label(result.case.op, error.implementation)),
            *cells(text.error(error.loss), text.error(error.gradient)),
            *([_numbers(error)] if has_numbers else []),
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
            if isinstance(known.get(op), LossBenchmark)
        ),
        *([f"Real rows: {real.NOTE}."] if any(result.case.data for result in run.cases) else []),
        *([NUMBERS] if has_numbers else []),
    ]
    columns = ["op", "shape", "dtype", "inputs", "implementation", "loss", "gradient"]
    columns += ["gradient of numbers"] if has_numbers else []
    caption = "error against float64; filled: the first kind of inputs above, hollow: the second."
    table = Table(columns, rows, 5, folded=True)
    return Section("Error against float64", words, drawings(run, plots.errors, caption), [table])


def _numbers(error: Error) -> Cell:
    return Cell("-" if error.scalars is None else text.error(error.scalars))
