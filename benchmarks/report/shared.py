"""What several sections need: a run in parts, and cells of tables."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from benchmarks import text
from benchmarks.registry import operators
from benchmarks.report.parts import Cell, Plot
from benchmarks.results import CaseResult, Results, Timing, told


def cells(*values: str) -> list[Cell]:
    """Cells without remarks."""
    return [Cell(value) for value in values]


def shape_cell(result: CaseResult, run: Results) -> Cell:
    """The shape, with those parameters that are not the same in all cases of the operator."""
    return Cell(result.case.shape_text, ", ".join(told(result.case, run.cases)))


def ratio_cell(timing: Timing | None) -> Cell:
    """Time over ours with its interval."""
    if timing is None or timing.ratio is None:
        return Cell("-")
    return Cell(text.times(timing.ratio), text.bounds(timing.ratio))


def percent_of_rate(timing: Timing) -> str:
    """Of a matrix product's rate, or of a copy's, which slow ones hardly have a share of."""
    if timing.copy_percent is not None:
        return f"{text.significant(timing.copy_percent, 2)} %"
    return "-" if timing.gemm_percent is None else f"{timing.gemm_percent:.0f} %"


def items_made(timing: Timing, op: str) -> str:
    """How many of what the operator makes it makes in a second."""
    known = operators()
    if timing.items_per_second is None:
        return "-"
    unit = f" {known[op].item}/s" if op in known else "/s"
    return text.thousands(timing.items_per_second) + unit


def timings_in(result: CaseResult, mode: str) -> dict[str, Timing]:
    """The timings of one mode by implementation."""
    return {t.implementation: t for t in result.timings if t.mode == mode}


def timed_cases(run: Results) -> list[CaseResult]:
    """All but those that were only weighed."""
    return [result for result in run.cases if result.timings]


def by_op(run: Results) -> dict[str, Results]:
    """The run as if each operator had one of its own: their shapes and baselines differ."""
    return {
        op: replace(run, cases=[result for result in run.cases if result.case.op == op])
        for op in dict.fromkeys(result.case.op for result in run.cases)
    }


def has_bytes(run: Results) -> bool:
    """Whether the rates are of bytes, and not of flops."""
    return any(t.gbytes_per_second is not None for result in run.cases for t in result.timings)


def by_unit(run: Results) -> list[Results]:
    """The run in two, as operators count flops or bytes: their tables have other columns."""
    ops = by_op(run)
    found = []
    for counts in (False, True):
        chosen = [op for op, part in ops.items() if has_bytes(part) == counts]
        cases = [result for result in run.cases if result.case.op in chosen]
        if cases:
            found.append(replace(run, cases=cases))
    return found


def drawings(run: Results, draw: Callable[[Results], str | None], caption: str) -> list[Plot]:
    """One drawing an operator, where there is something to draw."""
    drawn = [(op, draw(part)) for op, part in by_op(run).items()]
    return [Plot(svg, f"{op}: {caption}") for op, svg in drawn if svg]
