"""What is left of a run for a person to read: a Markdown summary, with a picture of the curves."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sslkernels.train.logging import CSV, MEASURES, read_csv

SUMMARY = "summary.md"
CURVES = "curves.png"
VIEWS = "views.png"


def write(
    out: Path,
    about: str,
    settings: Mapping[str, Any],
    title: str,
    before: Mapping[str, str],
    after: Mapping[str, str],
) -> Path:
    """Write `summary.md` into the run's folder, and `curves.png` where matplotlib is installed.

    Args:
        about: the method in words, its title first.
        title: of the measurements `before` and `after`, by name, as they are shown; there may be
            none.
    """
    headline, _, words = about.partition("\n")
    rows = read_csv(out / CSV)
    lines = [f"# {headline}", "", words.strip(), ""]
    if after:
        measured = [(x, before[x], after[x]) for x in after]
        lines += [f"## {title}", "", *table(("measure", "untrained", "trained"), measured), ""]
    if rows:
        lines += [f"{len(rows)} steps, the last with loss {float(rows[-1]['loss']):.4g}."]
        drawn = draw(out, rows)
        lines += ["", f"![Loss, learning rate and measures]({CURVES})" if drawn else NO_CURVES]
    if (out / VIEWS).exists():
        lines += ["", f"Images, each with what the method is shown of it:\n\n![Views]({VIEWS})"]
    lines += ["", "## Settings", ""]
    lines += table(("setting", "value"), [(k, shown(v)) for k, v in settings.items()])
    path = out / SUMMARY
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


NO_CURVES = "Curves are drawn where matplotlib is installed."


def table(head: tuple[str, ...], rows: list[tuple[str, ...]]) -> list[str]:
    """Lines of a Markdown table."""
    lines = [head, ("---",) * len(head), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in x)} |" for x in lines]


def shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def draw(out: Path, rows: list[dict[str, str]]) -> bool:
    """The curves as a picture; False where nothing can draw."""
    try:
        from matplotlib.figure import Figure
    except ImportError:
        return False
    steps = [int(row["step"]) for row in rows]
    figure = Figure(figsize=(10, 3), layout="constrained")
    axes = figure.subplots(1, 3)
    for axis, name, words in zip(axes, ("loss", "lr"), ("loss", "learning rate"), strict=False):
        axis.plot(steps, [float(row[name]) for row in rows], linewidth=1)
        axis.set(title=words, xlabel="step")
    measured = read_csv(out / MEASURES) if (out / MEASURES).exists() else []
    for name in dict.fromkeys(row["measure"] for row in measured):
        own = [row for row in measured if row["measure"] == name]
        points = [int(row["step"]) for row in own], [float(row["value"]) for row in own]
        axes[2].plot(*points, marker="o", markersize=3, label=name)
    axes[2].set(title="measured while it trained", xlabel="step")
    if measured:
        axes[2].legend()
    figure.savefig(out / CURVES, dpi=110)
    return True
