"""The pages about kernels for GPUs: what they say, by hand, and that the committed ones are new."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from benchmarks import cli, evidence
from benchmarks.errors import InputError
from benchmarks.evidence import cards, counts, resources, tables

ROW = {
    "kernel": "_made_up",
    "matrix": {"HMMA": 12},
    "registers": 128,
    "shared": 49152,
    "spills": 0,
    "stack": 0,
    "stages": 2,
    "warps": 4,
}
COUNTED = {
    "kernel": "_made_up",
    "tile": {"BLOCK_M": 64, "BLOCK_D": 16, "warps": 4, "stages": 2},
    "programs": 3,
    "matrix_instructions": 1000,
    "matrix_flops": 4_096_000,
    "sectors_read": 3000,
    "sectors_written": 1000,
    "touched_read": 30_000,
    "touched_written": 2_000,
    "wavefronts": 300,
    "fewest_wavefronts": 200,
}


def cells(page: str, first: str) -> dict[str, str]:
    """The row of a page's last table whose first cell is `first`, by column."""
    rows = [[x.strip() for x in line.split("|")[1:-1]] for line in page.split("\n") if "|" in line]
    [row] = [row for row in rows if row[0] == first]
    return dict(zip(rows[0], row, strict=True))


def test_a_page_of_resources():
    page = resources.page("sm_80", {"float32 64: forward": [ROW], "float32 128: forward": [ROW]})
    row = cells(page, "forward (float32 64, float32 128)")
    # 164 KiB hold three times 48 + 1; three blocks of four warps are 12 of 64.
    assert (row["blocks"], row["occupancy"], row["limited by"]) == ("3", "18.8 %", "shared memory")
    assert (row["registers"], row["shared KiB"], row["spills"]) == ("128", "48.0", "0")
    assert row["matrix instructions"] == "12 HMMA"


def test_a_page_of_counts():
    row = cells(counts.page({"float32 64: forward": [COUNTED]}), "float32 64: forward")
    assert row["tile"] == "M 64, D 16, 4 warps, 2 stages"
    assert (row["KiB moved"], row["fewest"], row["moved / fewest"]) == ("125", "31.2", "4.00")
    assert (row["flop/byte moved"], row["flop/byte at best"]) == ("32.0", "128")
    assert row["wavefronts / fewest"] == "1.50"
    # 128 flop per byte at best are more than MI250X's 117 and fewer than the others' 153 and more.
    assert row["bound by"] == "memory: A100, H100, B200, MI300X; caches: MI250X"


@pytest.mark.parametrize(
    ("flops", "expected"),
    [(0, cards.MEMORY), (999, cards.MEMORY), (1001, cards.CACHES), (10_001, cards.MATRIX)],
)
def test_the_roofs(flops: int, expected: str):
    card = cards.Card("made up", teraflops=20.0, terabytes=2.0, source="")
    assert cards.roof(card, flops, moved=1000, fewest=100) == expected


def test_every_page_says_that_no_time_was_measured():
    for name, page in evidence.pages().items():
        assert tables.NOTICE in page, name


def test_the_committed_pages_are_those_of_the_tables():
    for name, page in evidence.pages().items():
        committed = evidence.FOLDER / name
        assert committed.read_text() == page, f"{name} is old: run {tables.COMMAND}"


def test_the_command_writes_the_pages(tmp_path: Path):
    done = CliRunner().invoke(cli.app, ["evidence", "--folder", str(tmp_path)])
    assert done.exit_code == 0, done.output
    assert {path.name for path in tmp_path.iterdir()} == set(evidence.pages())


def test_a_missing_table_is_one_line(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setattr(tables, "_EMULATION", tmp_path)
    with pytest.raises(InputError, match=r"no resources\.json"):
        evidence.pages()
    (tmp_path / "resources.json").write_text(json.dumps({}))
    with pytest.raises(InputError, match=r"no counts\.json"):
        evidence.pages()
