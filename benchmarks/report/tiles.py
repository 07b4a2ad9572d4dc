"""The headline figures on top of a page."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import EAGER, OURS, compared, eager_word, headline, label
from benchmarks.report.parts import Tile
from benchmarks.report.shared import by_op
from benchmarks.results import Results


def all_tiles(run: Results) -> list[Tile]:
    """Each operator's headline figures, then the largest error over eager's."""
    tiles = [tile for op, part in by_op(run).items() for tile in _op_tiles(op, part)]
    worse = _worst_error_ratio(run)
    if worse is not None:
        meaning = "largest gradient error against float64, ours / eager's at the same setting"
        tiles.append(Tile(f"{text.significant(worse, 2)}x", meaning))
    return tiles


def _op_tiles(op: str, run: Results) -> list[Tile]:
    tiles = []
    for name in compared(op):
        ratios = [
            timing.ratio.median
            for result in run.cases
            for timing in result.timings
            if (timing.implementation, timing.mode) == (name, headline(op)) and timing.ratio
        ]
        if ratios:
            meaning = f"{op}: time of {label(op, name)} / ours, {text.mode(headline(op))}"
            count = f"{len(ratios)} case{'s' if len(ratios) > 1 else ''}"
            tiles.append(Tile(_range(ratios, "x"), f"{meaning}, {count}"))
    weighed = [
        (result.case, memory.percent_of_eager)
        for result in run.cases
        for memory in result.memory
        if memory.implementation == OURS and memory.percent_of_eager is not None
    ]
    if weighed:
        case, percent = max(weighed, key=lambda pair: pair[0].shape[0])
        word = eager_word(op)
        meaning = f"{op}: of {word}'s peak extra memory at {case.shape_text}, {case.kind}"
        tiles.append(Tile(f"{text.significant(percent, 2)} %", meaning))
    errors = [
        one.error
        for result in run.cases
        for one in result.exactness
        if one.implementation == OURS and one.error is not None
    ]
    if errors:
        meaning = f"{op}: our largest error against float64, over all stages, of a pixel in 0 ... 1"
        tiles.append(Tile(text.error(max(errors)), meaning))
    return tiles


def _range(values: list[float], unit: str) -> str:
    low, high = text.significant(min(values), 2), text.significant(max(values), 2)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _worst_error_ratio(run: Results) -> float | None:
    """Over the kinds that promise eager's accuracy: 'high' trades it away on purpose."""
    found = []
    for result in run.cases:
        if result.case.kind in ("float32 high", "float32 medium"):
            continue
        by_name = {(e.implementation, e.inputs): e.gradient for e in result.errors}
        for (name, inputs), ours in by_name.items():
            eager = by_name.get((EAGER, inputs))
            if name == OURS and eager:
                found.append(ours / eager)
    return max(found, default=None)
