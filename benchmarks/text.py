"""Numbers as a reader wants them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from benchmarks.statistics import Interval


def significant(value: float, digits: int = 3) -> str:
    """`value` with `digits` significant digits and without an exponent: 0.0123, 4.56, 789."""
    if value == 0 or value != value or abs(value) == float("inf"):
        return f"{value:.0f}"
    rounded = float(f"{value:.{digits - 1}e}")
    exponent = int(f"{abs(rounded):e}".split("e")[1])
    return f"{rounded:.{max(digits - 1 - exponent, 0)}f}"


def mode(name: str) -> str:
    """'forward + backward' for 'forward+backward'."""
    return name.replace("+", " + ")


def thousands(value: float) -> str:
    """Three significant digits and commas: '1,230,000', '456'."""
    rounded = significant(value)
    return f"{int(rounded):,}" if rounded.isdecimal() else rounded


def round_number(value: float) -> str:
    """A number on an axis, without trailing zeros: '1', '0.5', '100'."""
    return f"{value:.4g}"


def seconds(value: float, number: Callable[[float], str] = significant) -> str:
    """A duration with a unit: '84.2 us', '1.23 ms', '1.23 s'."""
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if value >= size:
            return f"{number(value / size)} {unit}"
    return f"{number(value / 1e-6)} us"


def size(value: float, number: Callable[[float], str] = significant) -> str:
    """Bytes with a unit: '12.0 KiB', '3.45 MiB', '1.23 GiB'."""
    for unit, power in (("TiB", 40), ("GiB", 30), ("MiB", 20)):
        if value >= 2**power:
            return f"{number(value / 2**power)} {unit}"
    return f"{number(value / 1024)} KiB"


def times(ratio: Interval) -> str:
    """A ratio: '12.3x'."""
    return f"{significant(ratio.median)}x"


def bounds(ratio: Interval) -> str:
    """The interval of a ratio: '12.1 to 12.6'."""
    return f"{significant(ratio.low)} to {significant(ratio.high)}"


def error(value: float) -> str:
    """An error: '1.2e-06'."""
    return f"{value:.1e}"


def markdown_table(columns: Sequence[str], rows: Sequence[Sequence[str]], labels: int = 1) -> str:
    """A table of GitHub Markdown; the first `labels` columns name the row, the rest are figures."""
    rules = [":--" if i < labels else "--:" for i in range(len(columns))]
    lines = [columns, rules, *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
