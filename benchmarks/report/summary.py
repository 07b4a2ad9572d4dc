"""The section of ratios to the baselines that matter most."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import OURS, compared, headline, label
from benchmarks.report import plots
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import (
    by_op,
    drawings,
    has_bytes,
    items_made,
    ratio_cell,
    shape_cell,
    timed_cases,
    timings_in,
)
from benchmarks.report.words import busy, fallback, headlines, remarks, shape_words, yardsticks
from benchmarks.results import Results, Timing


def summary_section(run: Results) -> Section | None:
    """The ratios to the baselines that matter most, a table an operator, a row a case."""
    tables = [_summary_table(op, part) for op, part in by_op(run).items() if timed_cases(part)]
    if not tables:
        return None
    words = [
        f"How many times as long a baseline takes as sslkernels, {headlines(run)}: above 1 means "
        "that sslkernels is faster. Medians of ratios paired within interleaved rounds, with "
        "95 % bootstrap intervals.",
        *shape_words(run),
        *yardsticks(run),
        *remarks(run),
        *fallback(run),
        *busy(run),
    ]
    caption = "the same ratios with their intervals, logarithmic scale, all baselines."
    return Section("Summary", words, drawings(run, plots.ratios, caption), tables)


def _summary_table(op: str, run: Results) -> Table:
    timed = timed_cases(run)
    measured = {timing.implementation for result in timed for timing in result.timings}
    baselines = [name for name in compared(op) if name in measured]
    counts_bytes = has_bytes(run)
    rows = []
    for result in timed:
        own = timings_in(result, headline(op))
        ratios = [ratio_cell(own.get(name)) for name in baselines]
        rates = [_bytes_rate(own.get(OURS), op)] if counts_bytes else []
        rows.append([Cell(op), shape_cell(result, run), Cell(result.case.kind), *rates, *ratios])
    columns = ["op", "shape", "dtype", *(["sslkernels' rate"] if counts_bytes else [])]
    return Table([*columns, *(label(op, name) for name in baselines)], rows, 3)


def _bytes_rate(timing: Timing | None, op: str) -> Cell:
    """What is made a second, with GB/s and percent of copy."""
    if timing is None or timing.gbytes_per_second is None:
        return Cell("-")
    rate = f"{text.significant(timing.gbytes_per_second)} GB/s"
    percent = "" if timing.copy_percent is None else f", {timing.copy_percent:.0f} % of copy"
    return Cell(items_made(timing, op), rate + percent)
