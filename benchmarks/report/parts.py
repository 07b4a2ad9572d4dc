"""What a page is made of, before it is Markdown or HTML: words, tables and plots."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Cell:
    """A table cell: the figure, and a smaller remark such as its interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """The first `labels` columns name the row, the rest are figures. `folded` hides it at first."""

    columns: list[str]
    rows: list[list[Cell]]
    labels: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """An SVG drawing and what it shows, in words."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Tile:
    """A headline figure with what it means."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A heading with its content, in the order words, plots, tables."""

    title: str
    words: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    code: str = ""


@dataclass(frozen=True)
class Document:
    """The report of one run."""

    title: str
    subtitle: str
    tiles: list[Tile]
    sections: list[Section]
