"""From results files to a Markdown page and one self-contained HTML page."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.document import document
from benchmarks.report.html import render_html
from benchmarks.report.markdown import render_markdown
from benchmarks.results import Results, write_atomically


def write_report(runs: list[Results], folder: Path) -> tuple[Path, Path]:
    """Write report.md and report.html into `folder` and return their paths."""
    pages = [document(run) for run in runs]
    markdown, html = folder / "report.md", folder / "report.html"
    write_atomically(markdown, render_markdown(pages))
    write_atomically(html, render_html(pages))
    return markdown, html
