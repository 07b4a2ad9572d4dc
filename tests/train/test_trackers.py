"""Weights & Biases: by a module that takes its place and keeps what it is told, and for real."""

from __future__ import annotations

import json
import struct
import sys
import time
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from sslkernels.train.logging import read_csv
from tests.train.commands import train

SHORT = ("simclr", "--images", 64, "--batch-size", 32, "--watch-every", 1, "--tracker", "wandb")


class Board(ModuleType):
    """What `accelerate` asks of wandb."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.__spec__ = ModuleSpec("wandb", None)
        self.started: list[dict[str, Any]] = []
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.settings: dict[str, Any] = {}
        self.finished = 0
        self.config = self

    def init(self, **options: Any) -> Board:
        self.started.append(options)
        return self

    def update(self, values: dict[str, Any], **_: Any) -> None:
        self.settings |= values

    def log(self, values: dict[str, float], step: int) -> None:
        self.rows.append((step, values))

    def finish(self) -> None:
        self.finished += 1


@pytest.fixture
def board(monkeypatch: pytest.MonkeyPatch) -> Board:
    board = Board()
    monkeypatch.setitem(sys.modules, "wandb", board)
    return board


def test_it_is_told_what_the_files_say(board, tmp_path):
    out = tmp_path / "first"
    result = train(*SHORT, "--epochs", 2, "--out", out)
    assert result.exit_code == 0, result.output
    assert board.started[0].items() >= {"project": "sslkernels", "name": "first"}.items()
    assert board.settings.items() >= {"method": "simclr", "temperature": 0.2}.items()
    steps = [(step, row) for step, row in board.rows if "train/loss" in row]
    assert [step for step, _ in steps] == [1, 2, 3, 4]
    for (_, row), wanted in zip(steps, read_csv(out / "metrics.csv"), strict=True):
        assert {f"train/{k}": float(wanted[k]) for k in ("loss", "lr", "grad_norm")}.items() <= (
            row.items()
        )
    measures = [(step, row) for step, row in board.rows if "measure/kNN" in row]
    assert [step for step, _ in measures] == [2, 4] and board.finished == 1


def test_a_resumed_run_goes_on_in_the_same_one(board, tmp_path, stopped_at):
    with stopped_at(3):
        assert train(*SHORT, "--epochs", 2, "--out", tmp_path).exit_code == 130
    assert board.finished == 1
    assert train(*SHORT, "--epochs", 2, "--out", tmp_path, "--resume").exit_code == 0
    assert train(*SHORT, "--epochs", 2, "--out", tmp_path).exit_code == 0
    first, second, other = (one["id"] for one in board.started)
    assert first == second != other
    assert all(one["resume"] == "allow" for one in board.started)


def test_by_default_there_is_none(board, tmp_path):
    assert train(*SHORT[:-2], "--epochs", 1, "--out", tmp_path).exit_code == 0
    assert not board.started and not (tmp_path / "wandb-id").exists()


def test_what_it_refuses_is_said_in_one_line(board, tmp_path, monkeypatch):
    def refuse(**_: Any) -> None:
        raise LookupError("no API key\nand more")

    monkeypatch.setattr(board, "init", refuse)
    result = train(*SHORT, "--out", tmp_path)
    assert result.exit_code == 2 and "error: --tracker wandb: no API key\n" in result.output


def test_without_the_package(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "wandb", None)
    result = train(*SHORT, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert result.output == "error: --tracker wandb needs wandb: pip install wandb\n"
    assert not (tmp_path / "run").exists()


def test_an_unknown_one_is_refused(tmp_path):
    result = train(*SHORT[:-1], "paper", "--out", tmp_path / "run")
    assert result.exit_code == 2 and "'paper' is not" in result.output


BLOCK, HEADER = 2**15, 7


def records(path: Path) -> Iterator[bytes]:
    """Of W&B's own file, which is LevelDB's log after seven bytes: in blocks, each piece with a
    checksum, its length and its kind, 1 of a whole record and 4 of a last piece."""
    data, at, record = path.read_bytes(), HEADER, b""
    while at + HEADER <= len(data):
        if BLOCK - at % BLOCK < HEADER:  # too little for a piece
            at += BLOCK - at % BLOCK
            continue
        length, kind = struct.unpack_from("<HB", data, at + 4)
        at += HEADER + length
        record += data[at - length : at]
        if kind in (1, 4):
            yield record
            record = b""


def test_the_real_one_offline(tmp_path, monkeypatch, stopped_at):
    """A run that is stopped and goes on, as it lies in W&B's own files."""
    wandb = pytest.importorskip("wandb", reason="wandb is not installed")
    from wandb.proto.wandb_internal_pb2 import Record

    monkeypatch.setenv("WANDB_MODE", "offline")
    with stopped_at(3):
        assert train(*SHORT, "--epochs", 2, "--out", tmp_path).exit_code == 130
    time.sleep(1)  # W&B names its folders by the second
    result = train(*SHORT, "--epochs", 2, "--out", tmp_path, "--resume")
    wandb.teardown()
    assert result.exit_code == 0, result.output

    number = (tmp_path / "wandb-id").read_text()
    files = sorted((tmp_path / "wandb").glob(f"offline-run-*/run-{number}.wandb"))
    assert len(files) == 2
    shown: dict[str, dict[int, float]] = {}
    for file in files:
        found = [Record.FromString(x) for x in records(file)]
        assert [x.run.project for x in found if x.HasField("run")] == ["sslkernels"]
        settings = {x.key: json.loads(x.value_json) for one in found for x in one.config.update}
        assert settings.items() >= {"method": "simclr", "temperature": 0.2}.items()
        for row in (x.history for x in found if x.HasField("history")):
            for item in row.item:
                name = "/".join(item.nested_key)
                shown.setdefault(name, {})[row.step.num] = json.loads(item.value_json)
    rows = read_csv(tmp_path / "metrics.csv")
    assert shown["train/loss"] == {int(row["step"]): float(row["loss"]) for row in rows}
    measures = read_csv(tmp_path / "measures.csv")
    assert shown["measure/kNN"] == {int(row["step"]): float(row["value"]) for row in measures}
