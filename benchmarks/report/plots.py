"""The drawings, as SVG text whose colours follow the page's light or dark style."""

from __future__ import annotations

import io
import re
from collections import Counter
from collections.abc import Callable
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from benchmarks import text
from benchmarks.case import KINDS
from benchmarks.registry import EAGER, OURS, headline, label
from benchmarks.results import CaseResult, Results, told
from benchmarks.statistics import Interval

# What matplotlib draws in these colours takes the style variable of the page instead.
INK, MUTED, GRID, CARD = "#010101", "#020202", "#030303", "#040404"
VARIABLES = {INK: "--ink", MUTED: "--muted", GRID: "--grid", CARD: "--card"}
# Colour, the style variable it becomes, and marker of every implementation, in drawing order.
SERIES = {
    OURS: ("#050101", "--ours", "o"),
    EAGER: ("#050202", "--eager", "s"),
    "compile": ("#050303", "--compile", "^"),
    "compile-dynamic": ("#050306", "--compile-dynamic", "P"),
    "eager-16": ("#050402", "--eager-16", "p"),
    "eager-full": ("#050307", "--full", "X"),
    "torch-linear-ce": ("#050308", "--chunked", "<"),
    "cut-cross-entropy": ("#050309", "--cut", "*"),
    "liger": ("#050401", "--liger", "h"),
    "lightly": ("#050404", "--lightly", "D"),
    "open-clip": ("#050405", "--lightly", "D"),
    "sentence-transformers": ("#050406", "--lightly", "D"),
    "metric-learning": ("#050505", "--other", "v"),
    "products": ("#050506", "--yardstick", "d"),
    "batch": ("#050601", "--batch", "P"),
    "kornia": ("#050602", "--kornia", "^"),
    "albumentations": ("#050603", "--albumentations", "D"),
    "albumentations-2": ("#050604", "--albumentations-2", "<"),
    "reference": ("#050605", "--reference", "v"),
    "chunked": ("#050606", "--plain", "h"),
}
RC: Any = {
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlesize": 10,
    "axes.titlecolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "grid.color": GRID,
    "axes.grid": True,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
WIDTH = 10.6


def times(run: Results) -> str | None:
    """Median time against rows, a panel for each dtype and precision."""

    def points(result: CaseResult) -> dict[str, float]:
        mode = headline(result.case.op)
        return {t.implementation: t.median for t in result.timings if t.mode == mode}

    return _against_rows(run, points, text.seconds, 10)


def memory(run: Results) -> str | None:
    """Peak extra memory against rows, a panel for each dtype and precision."""

    def points(result: CaseResult) -> dict[str, float]:
        peaks = {m.implementation: m.peak_extra_bytes for m in result.memory}
        return {name: float(peak) for name, peak in peaks.items() if peak}

    return _against_rows(run, points, text.size, 4)


def ratios(run: Results) -> str | None:
    """Bars of the time over ours with intervals, a panel for each dtype and precision."""
    kinds = _kinds([r for r in run.cases if r.timings])
    shapes = list(dict.fromkeys(_row(r, run) for r in run.cases if r.timings))
    bars = {
        (r.case.kind, _row(r, run), t.implementation): t.ratio
        for r in run.cases
        for t in r.timings
        if t.mode == headline(r.case.op) and t.implementation != OURS and t.ratio is not None
    }
    names = [name for name in SERIES if any(key[2] == name for key in bars)]
    if not bars:
        return None
    with matplotlib.rc_context(RC):
        step = 0.8 / len(names)
        height = 1.1 + len(shapes) * (0.25 + 0.17 * len(names))
        figure, axes = _panels(len(kinds), height, _labels(run, names))
        for axis, kind in zip(axes, kinds, strict=True):
            for i, name in enumerate(names):
                for row, shape in enumerate(shapes):
                    ratio = bars.get((kind, shape, name))
                    if ratio is None:
                        continue
                    y = row + (i - (len(names) - 1) / 2) * step
                    _bar(axis, y, step, ratio.median, ratio.low, ratio.high, SERIES[name][0])
            axis.axvline(1.0, color=INK, linewidth=1)
            axis.set_xscale("log")
            _ratio_axis(axis, list(bars.values()))
            axis.set_title(kind, loc="left")
            axis.set_xlabel("time / time of sslkernels")
            axis.grid(visible=False, axis="y")
        axes[0].set_yticks(range(len(shapes)), shapes)
        axes[0].invert_yaxis()
        _legend(figure, _labels(run, names))
        return _svg(figure)


def errors(run: Results) -> str | None:
    """Loss and gradient error of every implementation, a row for each case."""
    results = [r for r in run.cases if r.errors]
    if not results:
        return None
    names = [n for n in SERIES if any(e.implementation == n for r in results for e in r.errors)]
    with matplotlib.rc_context(RC):
        figure, axes = _panels(2, 1.1 + 0.3 * len(results), _labels(run, names))
        for axis, quantity in zip(axes, ("loss", "gradient"), strict=True):
            for row, result in enumerate(results):
                for error in result.errors:
                    if error.implementation not in SERIES:
                        continue
                    color, _, marker = SERIES[error.implementation]
                    full = error.inputs == result.errors[0].inputs
                    axis.plot(
                        # An exact loss has no place on a logarithmic axis.
                        max(getattr(error, quantity), 1e-18),
                        row + (-0.14 if full else 0.14),
                        marker=marker,
                        color=color,
                        markersize=6,
                        markerfacecolor=color if full else CARD,
                        linestyle="none",
                    )
            axis.set_xscale("log")
            axis.set_title(f"relative error of the {quantity}", loc="left")
        axes[0].set_yticks(
            range(len(results)),
            [f"{r.case.shape_text}  {r.case.kind}  {r.case.data}".rstrip() for r in results],
        )
        axes[0].invert_yaxis()
        _legend(figure, _labels(run, names), lines=True)
        return _svg(figure)


def _against_rows(
    run: Results,
    points: Callable[[CaseResult], dict[str, float]],
    unit: Callable[[float, Callable[[float], str]], str],
    base: int,
) -> str | None:
    """Log-log lines over the first size, at the most frequent remaining sizes, of random rows."""
    results = [r for r in run.cases if points(r) and not r.case.data]
    if not results:
        return None
    rest, _ = Counter(r.case.shape[1:] for r in results).most_common(1)[0]
    results = [r for r in results if r.case.shape[1:] == rest]
    kinds = [
        kind
        for kind in _kinds(results)
        if len({r.case.shape[0] for r in results if r.case.kind == kind}) > 1
    ]
    if not kinds:
        return None
    values = [value for r in results if r.case.kind in kinds for value in points(r).values()]
    subs = (1, 2, 5) if base == 10 and max(values) < 50 * min(values) else (1,)
    drawn = [s for s in SERIES if any(s in points(r) for r in results if r.case.kind in kinds)]
    with matplotlib.rc_context(RC):
        figure, axes = _panels(len(kinds), 3.4, _labels(run, drawn))
        for axis, kind in zip(axes, kinds, strict=True):
            chosen = sorted((r for r in results if r.case.kind == kind), key=_rows)
            for series in drawn:
                color, _, marker = SERIES[series]
                line = [(_rows(r), points(r)[series]) for r in chosen if series in points(r)]
                if line:
                    axis.plot(*zip(*line, strict=True), marker=marker, color=color, linewidth=1.8)
            axis.set_xscale("log", base=2)
            axis.set_yscale("log", base=base)
            sizes = sorted({_rows(r) for r in chosen})
            axis.set_xticks(sizes, list(map(str, sizes)))
            axis.xaxis.set_minor_formatter(NullFormatter())
            axis.yaxis.set_major_locator(LogLocator(base=base, subs=subs))
            axis.yaxis.set_minor_locator(NullLocator())
            axis.yaxis.set_major_formatter(
                FuncFormatter(lambda value, _: unit(value, text.round_number))
            )
            axis.set_title(kind, loc="left")
            axis.set_xlabel(f"rows; the other sizes are {' x '.join(map(str, rest))}")
        _legend(figure, _labels(run, drawn), lines=True)
        return _svg(figure)


def _row(result: CaseResult, run: Results) -> str:
    """The shape, with those parameters that differ among the cases of this shape."""
    case = result.case
    alike = [other for other in run.cases if other.case.shape == case.shape]
    return "\n".join([case.shape_text, *told(case, alike)])


def _rows(result: CaseResult) -> int:
    return result.case.shape[0]


def _kinds(results: list[CaseResult]) -> list[str]:
    return sorted({result.case.kind for result in results}, key=KINDS.index)


def _labels(run: Results, names: list[str]) -> dict[str, str]:
    return {name: label(run.cases[0].case.op, name) for name in names}


def _legend_columns(labels: dict[str, str]) -> int:
    """As many entries in a line as the width has room for: about 14 letters an inch."""
    longest = max(map(len, labels.values())) + 6
    return min(len(labels), max(1, int(WIDTH * 14 / longest)))


def _panels(count: int, height: float, labels: dict[str, str]) -> tuple[Figure, list[Axes]]:
    """Axes beside each other, `height` inches tall without the lines of the legend."""
    lines = -(-len(labels) // _legend_columns(labels))
    figure = Figure(figsize=(WIDTH, height + 0.2 * lines), layout="constrained")
    axes: Any = figure.subplots(1, count, sharey=True, squeeze=False)
    return figure, list(np.ravel(axes))


def _bar(
    axis: Axes, y: float, step: float, middle: float, low: float, high: float, color: str
) -> None:
    axis.barh(y, middle - 1.0, left=1.0, height=0.86 * step, color=color)
    axis.plot([low, high], [y, y], color=INK, linewidth=1.2)
    axis.annotate(
        text.significant(middle),
        (max(high, 1.0), y),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        fontsize=8,
    )


def _ratio_axis(axis: Axes, ratios: list[Interval]) -> None:
    """Plain ticks, the same in every panel, with room for the figures beside the bars."""
    low = min(1.0, *(ratio.low for ratio in ratios)) / 1.15
    high = max(1.2, *(ratio.high for ratio in ratios)) ** 1.12 * 1.35
    steps = (1, 2, 5) if high / low < 60 else (1,)
    ticks = [m * 10.0**e for e in range(-3, 6) for m in steps if low <= m * 10.0**e <= high]
    axis.set_xlim(low, high)
    axis.set_xticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.xaxis.set_minor_locator(NullLocator())


def _legend(figure: Figure, labels: dict[str, str], lines: bool = False) -> None:
    from matplotlib.lines import Line2D
    from matplotlib.patches import Patch

    handles = [
        Line2D([], [], color=SERIES[n][0], marker=SERIES[n][2], linewidth=1.8, label=words)
        if lines
        else Patch(color=SERIES[n][0], label=words)
        for n, words in labels.items()
    ]
    figure.legend(handles=handles, loc="outside upper left", ncols=_legend_columns(labels))


def _svg(figure: Figure) -> str:
    """The drawing as an element: no XML header, colours by style variable."""
    buffer = io.StringIO()
    # The same results make the same bytes.
    with matplotlib.rc_context({"svg.hashsalt": "sslkernels"}):
        metadata: Any = {"Date": None, "Creator": None, "Type": None, "Format": None}
        figure.savefig(buffer, format="svg", transparent=True, metadata=metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    for color, variable in VARIABLES.items():
        svg = svg.replace(color, f"var({variable})")
    for color, variable, _ in SERIES.values():
        svg = svg.replace(color, f"var({variable})")
    return svg.replace("font-family: 'DejaVu Sans'", "font-family: inherit")
