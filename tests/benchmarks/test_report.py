"""The report says what the results hold, and needs nothing from outside."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("matplotlib")

from benchmarks.case import Case
from benchmarks.report import write_report
from benchmarks.report.document import document
from benchmarks.results import Results


@pytest.fixture
def pages(make_results: Callable[..., Results], tmp_path: Path) -> tuple[str, str]:
    markdown, html = write_report([make_results(), make_results(seed=3)], tmp_path)
    return markdown.read_text(), html.read_text()


def test_both_pages_have_every_section(pages: tuple[str, str]) -> None:
    for page in pages:
        for words in ("Summary", "Time", "Memory", "Error against float64", "GPU", "Not measured",
                      "Left out", "pip install lightly", "Environment", "How to reproduce",
                      "python -m benchmarks run --quick", "0123456789ab"):  # fmt: skip
            assert words in page


def test_html_needs_no_network_and_escapes(pages: tuple[str, str]) -> None:
    _, html = pages
    assert not re.search(r"(?:src|href)\s*=\s*\"(?!#)", html)
    assert "@import" not in html
    assert "<script" not in html
    assert "Made-up CPU &lt;2 cores &amp; co&gt;" in html
    assert "<2 cores" not in html


class _Tags(HTMLParser):
    """Collects ids and whether every tag is closed in order."""

    VOID = ("meta", "br", "img", "link")

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.ids += [value for name, value in attrs if name == "id" and value]

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_html_is_well_formed_and_ids_are_unique(pages: tuple[str, str]) -> None:
    tags = _Tags()
    tags.feed(pages[1])
    assert tags.open == []
    assert len(tags.ids) == len(set(tags.ids))


def test_drawings_are_svg_in_the_colours_of_the_page(make_results: Callable[..., Results]) -> None:
    drawn = [plot for section in document(make_results()).sections for plot in section.plots]
    assert len(drawn) == 4
    for plot in drawn:
        assert ET.fromstring(plot.svg).tag.endswith("svg")
        assert "var(--ours)" in plot.svg or "var(--eager)" in plot.svg
        assert not re.search(r"#0[1-9]0[1-9]0[1-9]", plot.svg)
        assert "DejaVu" not in plot.svg


def test_summary_shows_the_ratios(make_results: Callable[..., Results]) -> None:
    run = make_results(noise=0.0)
    (table,) = next(s for s in document(run).sections if s.title == "Summary").tables
    assert [[cell.text for cell in row] for row in table.rows] == [
        ["nt_xent", "512x128", "float32 high", "8.00x", "4.00x"],
        ["nt_xent", "2048x128", "float32 high", "8.00x", "4.00x"],
    ]


def _with_linear(run: Results) -> Results:
    """The same figures a second time, for an operator with a yardstick and other baselines."""
    added = []
    for result, masked in zip(run.cases, (0.15, 1.0), strict=True):
        parameters = {"masked": masked}
        case = Case("linear_cross_entropy", (512, 64, 99), "bfloat16", parameters=parameters)
        timings = [
            replace(one, implementation="products") if one.implementation == "compile" else one
            for one in result.timings
        ]
        added.append(replace(result, case=case, timings=timings))
    return replace(run, cases=run.cases + added)


def test_operators_have_tables_and_drawings_of_their_own(
    make_results: Callable[..., Results],
) -> None:
    page = document(_with_linear(make_results(noise=0.0)))
    summary = next(s for s in page.sections if s.title == "Summary")
    first, second = summary.tables
    assert first.columns == ["op", "shape", "dtype", "eager PyTorch", "torch.compile"]
    assert second.columns[3:] == [
        "eager, gathered rows",
        "three bare products (yardstick, no loss)",
    ]
    # Shape and dtype do not tell these two apart.
    assert [row[1].detail for row in second.rows] == ["masked 0.15", "masked 1"]
    assert [row[1].detail for row in first.rows] == ["", ""]
    assert len(summary.plots) == 2
    assert "masked 0.15 or 1" in " ".join(summary.words)
    assert "(yardstick, no loss) is no contender" in " ".join(summary.words)
    assert {tile.meaning.split(":")[0] for tile in page.tiles[:-1]} == {
        "nt_xent",
        "linear_cross_entropy",
    }


def _warnings(run: Results) -> list[str]:
    words = (word for section in document(run).sections for word in section.words)
    return [word for word in words if word.startswith("Warning")]


def test_what_spoils_the_figures_is_said(make_results: Callable[..., Results]) -> None:
    run = make_results()
    assert _warnings(run) == []
    busy = replace(run, environment=replace(run.environment, load_before=1.6))
    assert "busy" in " ".join(_warnings(busy))
    slow = replace(run, cases=[replace(run.cases[0], backend="chunked"), run.cases[1]])
    assert "in 1 of 2 cases sslkernels ran its plain PyTorch" in " ".join(_warnings(slow))


def test_an_empty_run_still_reports(make_results: Callable[..., Results], tmp_path: Path) -> None:
    run = make_results()
    run.cases.clear()
    markdown, _ = write_report([run], tmp_path)
    assert "Environment" in markdown.read_text()
