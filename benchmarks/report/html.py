"""A document as one HTML page that needs no network: style and drawings are inside."""

from __future__ import annotations

import re
from html import escape
from pathlib import Path

from benchmarks.report.parts import Document, Plot, Section, Table, Tile

STYLE = Path(__file__).with_name("style.css")


def render_html(pages: list[Document]) -> str:
    """All runs in one page."""
    body = "\n".join(_page(page, number) for number, page in enumerate(pages))
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>sslkernels benchmarks</title>\n<style>\n{STYLE.read_text()}</style>\n</head>\n"
        f"<body>\n<main>\n<h1>sslkernels benchmarks</h1>\n{body}\n</main>\n</body>\n</html>\n"
    )


def _page(page: Document, number: int) -> str:
    anchors = [f"r{number}-s{index}" for index in range(len(page.sections))]
    links = " ".join(
        f'<a href="#{anchor}">{escape(section.title)}</a>'
        for anchor, section in zip(anchors, page.sections, strict=True)
    )
    sections = "\n".join(
        _section(section, anchor) for anchor, section in zip(anchors, page.sections, strict=True)
    )
    return (
        f'<header>\n<h2 class="run">{escape(page.title)}</h2>\n'
        f'<p class="subtitle">{escape(page.subtitle)}</p>\n</header>\n'
        f'<div class="tiles">{"".join(map(_tile, page.tiles))}</div>\n'
        f'<nav aria-label="Sections">{links}</nav>\n{sections}'
    )


def _tile(tile: Tile) -> str:
    return f"<div><strong>{escape(tile.value)}</strong><span>{escape(tile.meaning)}</span></div>"


def _section(section: Section, anchor: str) -> str:
    words = "".join(f"<p>{escape(word)}</p>\n" for word in section.words)
    code = f"<pre>{escape(section.code)}</pre>\n" if section.code else ""
    tables = "".join(map(_table, section.tables))
    # The summary's table is the answer; elsewhere the drawing comes first.
    drawings = "".join(
        _plot(plot, f"{anchor}-p{index}") for index, plot in enumerate(section.plots)
    )
    folded = any(table.folded for table in section.tables)
    content = drawings + tables if folded else tables + drawings
    return (
        f'<section id="{anchor}">\n<h3>{escape(section.title)}</h3>\n{words}{code}{content}'
        "</section>"
    )


def _plot(plot: Plot, anchor: str) -> str:
    """A figure; the ids inside the drawing get `anchor` in front, to be unique in the page."""
    svg = re.sub(r'\bid="', f'id="{anchor}-', plot.svg)
    svg = re.sub(r'(href="|url\()#', rf"\1#{anchor}-", svg)
    caption = escape(plot.caption)
    return (
        f'<figure role="img" aria-label="{caption}"><div class="wide">{svg}</div>'
        f"<figcaption>{caption}</figcaption></figure>\n"
    )


def _table(table: Table) -> str:
    def style(column: int) -> str:
        return "" if column < table.labels else ' class="n"'

    head = "".join(f"<th{style(i)}>{escape(name)}</th>" for i, name in enumerate(table.columns))
    rows = []
    for row in table.rows:
        cells = []
        for i, cell in enumerate(row):
            detail = f" <small>{escape(cell.detail)}</small>" if cell.detail else ""
            cells.append(f"<td{style(i)}>{escape(cell.text)}{detail}</td>")
        rows.append(f"<tr>{''.join(cells)}</tr>\n")
    drawn = (
        f'<div class="wide"><table>\n<thead><tr>{head}</tr></thead>\n'
        f"<tbody>\n{''.join(rows)}</tbody></table></div>\n"
    )
    if not table.folded:
        return drawn
    return f"<details><summary>All figures ({len(rows)} rows)</summary>\n{drawn}</details>\n"
