"""A document as GitHub Markdown."""

from __future__ import annotations

from benchmarks.report.parts import Cell, Document, Section, Table
from benchmarks.text import markdown_table


def render_markdown(pages: list[Document]) -> str:
    """All runs in one page, headings nested below one title."""
    parts = ["# sslkernels benchmarks"]
    for page in pages:
        parts += [f"## {page.title}", page.subtitle + "."]
        if page.tiles:
            parts.append("\n".join(f"- **{tile.value}** {tile.meaning}" for tile in page.tiles))
        for section in page.sections:
            parts += _section(section)
    return "\n\n".join(parts) + "\n"


def _section(section: Section) -> list[str]:
    parts = [f"### {section.title}", *section.words]
    if section.code:
        parts.append(f"```sh\n{section.code}\n```")
    return parts + [_table(table) for table in section.tables]


def _table(table: Table) -> str:
    rows = [[_cell(cell) for cell in row] for row in table.rows]
    return markdown_table(table.columns, rows, table.labels)


def _cell(cell: Cell) -> str:
    return f"{cell.text} ({cell.detail})" if cell.detail else cell.text
