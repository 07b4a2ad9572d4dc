"""Tables of pairs, and how rankings are scored."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sslkernels.train.errors import TrainError
from sslkernels.train.pairs.examples import auc, popularity, recall
from sslkernels.train.pairs.table import GRAPHS, INTERACTIONS, Pairs, load


def write(path: Path, rows: list[str]) -> str:
    path.write_text("\n".join(["user,item,when", *rows]) + "\n")
    return str(path)


def test_a_csv_file(tmp_path):
    rows = [f"u{i},i{j},{i + j}" for i in range(6) for j in range(7)]
    pairs = load(write(tmp_path / "x.csv", [*rows, rows[0]]), {}, same=False, strict=True)
    assert (pairs.lefts, pairs.rights) == (6, 7)
    assert len(pairs.train) + len(pairs.test) == 42 and len(pairs.test) == 5
    seen = {tuple(x) for part in (pairs.train, pairs.test) for x in part.tolist()}
    assert len(seen) == 42


def test_of_a_graph_both_ends_are_numbered_together(tmp_path):
    rows = [f"n{i},n{(i + step) % 30}" for i in range(30) for step in (1, 2)]
    pairs = load(write(tmp_path / "x.csv", rows), {}, same=True, strict=True)
    assert pairs.lefts == pairs.rights == 30
    steps = (pairs.train[:, 1] - pairs.train[:, 0]).unique()
    assert len(pairs.train) == 54 and steps.abs().max() < 30


def test_bad_lines_are_counted_or_refused(tmp_path):
    rows = [f"u{i % 5},i{i % 7}" for i in range(35)]
    path = write(tmp_path / "x.csv", [*rows, "alone", ",nothing"])
    pairs = load(path, {}, same=False, strict=False)
    assert pairs.note.endswith("2 lines skipped, without two fields: 37, 38")
    with pytest.raises(TrainError, match="2 lines without two fields: 37, 38"):
        load(path, {}, same=False, strict=True)


def test_what_cannot_be_read(tmp_path):
    with pytest.raises(TrainError, match="has 3 different pairs, fewer than 20"):
        load(write(tmp_path / "x.csv", ["a,b", "a,c", "b,c"]), {}, same=False, strict=False)
    (tmp_path / "y.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(TrainError, match=r"cannot read .*y\.csv"):
        load(str(tmp_path / "y.csv"), {}, same=False, strict=False)
    with pytest.raises(TrainError, match="unknown data 'z': known are digits, and CSV files"):
        load("z", INTERACTIONS, same=False, strict=False)


def test_what_is_on_the_machine():
    assert load("digits", INTERACTIONS, same=False, strict=True).rights <= 64
    graph = load("stdlib", GRAPHS, same=True, strict=True)
    assert len(graph.train) > 500 and graph.lefts > 100


@pytest.fixture
def pairs() -> Pairs:
    train = torch.tensor([[0, 0], [0, 1], [1, 1], [2, 1]])
    return Pairs(train, torch.tensor([[1, 0], [2, 3]]), 3, 4, "")


def test_recall_leaves_out_what_is_known(pairs):
    scores = torch.tensor([[9.0, 9, 9, 9], [5, 9, 4, 1], [3, 9, 2, 1]])
    assert recall(scores, pairs, 1) == 0.5  # of user 2 item 0 is the best, not 3
    assert recall(scores, pairs, 3) == 1
    assert popularity(pairs).tolist() == [[1, 3, 0, 0]] * 3


def test_auc_of_a_perfect_an_inverse_and_no_ranking(pairs):
    scores = torch.zeros(3, 4)
    assert auc(scores, pairs) == 0.5
    scores[pairs.test[:, 0], pairs.test[:, 1]] = 1.0
    assert auc(scores, pairs) == 1 and auc(-scores, pairs) == 0


def test_auc_needs_pairs_that_are_not_linked():
    everyone = torch.cartesian_prod(torch.arange(3), torch.arange(3))
    with pytest.raises(TrainError, match="all 3 things are linked with each other"):
        auc(torch.zeros(3, 3), Pairs(everyone[:6], everyone[6:], 3, 3, ""))
