"""The section of what a backward adds."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import BOTH, FORWARD, OURS, headline, label
from benchmarks.report.parts import Cell, Section, Table
from benchmarks.report.shared import by_op, cells, ratio_cell, shape_cell, timings_in
from benchmarks.results import Results


def backward_section(run: Results) -> Section | None:
    """What a backward adds, of operators whose summary shows the forward."""
    rows = []
    for op, part in by_op(run).items():
        for result in part.cases if headline(op) == FORWARD else ():
            forward, both = timings_in(result, FORWARD), timings_in(result, BOTH)
            for name, timing in both.items():
                if name not in forward:
                    continue
                alone = timing.median - forward[name].median
                rows.append(
                    [
                        Cell(op),
                        shape_cell(result, run),
                        *cells(result.case.kind, label(op, name)),
                        *map(Cell, map(text.seconds, (forward[name].median, timing.median))),
                        Cell(f"{text.significant(alone / forward[name].median)}x"),
                        ratio_cell(timing) if name != OURS else Cell("1"),
                    ]
                )
    if not rows:
        return None
    words = [
        "Where the inputs take a gradient. Backward / forward is the difference of the two medians "
        "over the first: below 1 a backward costs less than a forward.",
    ]
    columns = ["op", "shape", "dtype", "implementation", "forward", "forward + backward"]
    columns += ["backward / forward", "forward + backward, time / ours"]
    return Section("Backward", words, [], [Table(columns, rows, 4)])
