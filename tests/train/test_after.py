"""What comes after a run: its summary, fine-tuning, distilling."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sslkernels.train.finished import read
from sslkernels.train.methods.finetune import scores
from tests.train.commands import measured, train

SHORT = ("--images", 128, "--batch-size", 32, "--epochs", 1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "simclr"
    result = train("simclr", *SHORT, "--temperature", 0.3, "--out", out)
    assert result.exit_code == 0, result.output
    return out


def test_a_run_is_read_with_its_weights_and_options(run):
    finished = read(run)
    assert finished.method.temperature == 0.3 and finished.facts["shape"] == [1, 8, 8]
    saved = torch.load(run / "checkpoint.pt")["model"]
    assert torch.equal(finished.method.encoder[0][0].weight, saved["encoder.0.0.weight"])


def test_the_summary_has_what_a_person_wants(run):
    text = (run / "summary.md").read_text()
    assert text.startswith("# SimCLR: A Simple Framework")
    for part in ("![Loss", "![Views](views.png)", "| temperature | 0.3 |", "4 steps, the last"):
        assert part in text
    knn = measured(run)["kNN (k = 20, cosine)"]
    last = (run / "measures.csv").read_text().splitlines()[-1].split(",")
    assert last[:3] == ["4", "1", "kNN"] and float(last[3]) == pytest.approx(knn[1], abs=5e-4)
    assert (run / "views.png").read_bytes()[:4] == b"\x89PNG"
    assert (run / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_finetuning_begins_with_the_run_and_frozen_leaves_it(run, tmp_path):
    result = train("finetune", "--run", run, "--frozen", *SHORT, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    assert {"accuracy", "recall (mean over classes)", "F1 (mean over classes)"} < {
        *measured(tmp_path)
    }
    tuned, before = read(tmp_path).method, read(run).method
    for mine, theirs in zip(
        tuned.encoder.state_dict().values(), before.encoder.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)


def test_scores_are_those_of_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics")
    generator = torch.Generator().manual_seed(0)
    truth = torch.randint(0, 4, (50,), generator=generator)
    guess = torch.where(torch.rand(50, generator=generator) < 0.5, truth, 2)
    mine = scores(guess, truth, 5)
    assert mine["accuracy"] == pytest.approx(metrics.accuracy_score(truth, guess))
    recall = metrics.recall_score(truth, guess, average="macro", zero_division=0)
    f1 = metrics.f1_score(truth, guess, average="macro", zero_division=0)
    assert mine["recall (mean over classes)"] == pytest.approx(recall)
    assert mine["F1 (mean over classes)"] == pytest.approx(f1)


def test_a_distilled_encoder_is_smaller_and_leaves_its_teacher(run, tmp_path):
    result = train("distil", "--teacher", run, *SHORT, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    student, teacher = read(tmp_path).method, read(run).method.encoder
    sizes = [sum(p.numel() for p in x.parameters()) for x in (student.encoder, teacher)]
    assert sizes[0] < sizes[1] / 10
    for mine, theirs in zip(
        student.teacher.state_dict().values(), teacher.state_dict().values(), strict=True
    ):
        assert torch.equal(mine, theirs)
