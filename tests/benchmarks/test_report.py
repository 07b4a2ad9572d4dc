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
from benchmarks.copying import CopyRate
from benchmarks.exactness import Exactness
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


def _with_augment(run: Results) -> Results:
    """The same figures a second time, for an operator that counts bytes and draws at random."""
    (first, second), exactness = (
        run.cases,
        [
            Exactness("ours", "flip", 1e-7),
            Exactness("eager", "flip", 2e-3),
            Exactness("ours", "full chain", 2e-6),
            Exactness("eager", "full chain", None, "full chain: made up"),
        ],
    )
    timings = [
        replace(one, gflops=None, gemm_percent=None, gbytes_per_second=3.2, copy_percent=40.0,
                items_per_second=1234567.0)
        for one in first.timings
    ]  # fmt: skip
    added = []
    for reuse, kind in ((0.0, "uint8"), (1.0, "uint8"), (0.0, "float32")):
        case = Case("augment", (4, 8, 8, 8), kind, "", parameters={"blur": 0.0, "reuse": reuse})
        forward = [one for one in timings if kind == "float32" or one.mode == "forward"]
        exact = [] if added else exactness
        added.append(replace(second, case=case, timings=forward, errors=[], exactness=exact))
    return replace(run, cases=run.cases + added, copies=[CopyRate(2**20, 8.0)])


def test_what_counts_bytes_has_columns_of_its_own(make_results: Callable[..., Results]) -> None:
    alone, page = document(make_results()), document(_with_augment(make_results(noise=0.0)))
    before = {section.title: section for section in alone.sections}
    sections = {section.title: section for section in page.sections}
    # What the other operators show stays as it was.
    for title in ("Time", "Memory", "Error against float64", "What GF/s and percent of GEMM mean"):
        assert before[title].tables[0].columns == sections[title].tables[0].columns
        assert len(before[title].tables[0].rows) == len(sections[title].tables[0].rows)
    summary = sections["Summary"].tables[1]
    assert summary.columns[:5] == [
        "op", "shape", "dtype", "sslkernels' rate", "torchvision v2, per sample",
    ]  # fmt: skip
    assert [row[1].detail for row in summary.rows] == ["reuse 0", "reuse 1", "reuse 0"]
    assert summary.rows[0][3].text == "1,230,000 views/s"
    assert summary.rows[0][3].detail == "3.20 GB/s, 40 % of copy"
    assert summary.rows[0][4].text == "8.00x"
    assert "forward + backward (augment: forward)" in sections["Summary"].words[0]
    assert sections["Time"].tables[1].columns[7:] == ["made", "GB/s", "of copy", "rounds"]
    assert "of torchvision's" in sections["Memory"].tables[1].columns


def test_backward_and_exactness_have_sections(make_results: Callable[..., Results]) -> None:
    page = document(_with_augment(make_results(noise=0.0)))
    sections = {section.title: section for section in page.sections}
    (backward,) = sections["Backward"].tables
    assert {row[2].text for row in backward.rows} == {"float32"}
    # Made up: forward takes 0.3 of both.
    assert [row[6].text for row in backward.rows] == ["2.33x"] * 3
    assert backward.rows[1][7].text == "8.00x"
    (exact,) = sections["Exactness"].tables
    assert exact.columns[3:] == ["sslkernels", "torchvision v2, per sample"]
    assert [[cell.text for cell in row[2:]] for row in exact.rows] == [
        ["flip", "1.0e-07", "2.0e-03"],
        ["full chain", "2.0e-06", "-"],
    ]
    assert "torchvision v2, per sample: full chain: made up." in sections["Exactness"].words
    assert "2.0e-06" in {tile.value for tile in page.tiles}
    assert "Backward" not in {section.title for section in document(make_results()).sections}


def _with_clip(run: Results) -> Results:
    """The first case as if it were CLIP's, on real rows, with a learnt scale."""
    case = Case("clip_loss", (512, 128), "float32", "high", "cpu", 2, {"temperature": 0.07})
    first = run.cases[0]
    errors = [replace(error, scalars=3e-7) for error in first.errors]
    added = [
        replace(first, case=replace(case, data=data), errors=errors) for data in ("", "digits")
    ]
    return replace(run, cases=[*run.cases, *added])


def test_products_real_rows_and_learnt_numbers(make_results: Callable[..., Results]) -> None:
    page = document(_with_clip(make_results(noise=0.0)))
    sections = {section.title: section for section in page.sections}
    (products,) = sections["Matrix products"].tables
    assert products.columns[4:] == ["products", "useful", "GF/s", "of GEMM"]
    ours, eager = products.rows[:2]
    assert [cell.text for cell in eager[2:]] == [
        "float32 high", "eager PyTorch", "3", "3", "50.0", "40 %",
    ]  # fmt: skip
    assert ours[5].text == "3"
    # Made up: everybody reaches 40 % with what is useful.
    assert ours[7].text == f"{float(ours[4].text) / 3 * 40:.0f} %"
    assert {row[0].text for row in products.rows} == {"clip_loss"}
    assert [row[1].detail for row in products.rows[::3]] == ["random rows", "digits"]
    (errors,) = sections["Error against float64"].tables
    assert errors.columns[-1] == "gradient of numbers"
    assert {row[0].text: row[-1].text for row in errors.rows} == {
        "nt_xent": "-", "clip_loss": "3.0e-07",
    }  # fmt: skip
    assert any(words.startswith("Real rows: digits") for words in page.sections[3].words)


def test_without_them_nothing_is_said(make_results: Callable[..., Results]) -> None:
    sections = {section.title: section for section in document(make_results()).sections}
    assert "Matrix products" not in sections
    assert sections["Error against float64"].tables[0].columns[-1] == "gradient"


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
