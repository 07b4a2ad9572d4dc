"""Every method beats its untrained encoder, by the margin stated here. All on real data but two:
wav2vec's sounds and the recommender's interactions are made of scikit-learn's digits."""

from __future__ import annotations

from pathlib import Path

import pytest

from sslkernels.train.registry import METHODS
from tests.train.commands import measured, train, untrained

KNN, LINEAR = "kNN (k = 20, cosine)", "linear probe"
SMALL = ("--batch-size", 128, "--epochs", 30)

# Options, what is measured, and by how much it must rise.
LEARNS = {
    "simclr": (SMALL, KNN, 0.04),
    "moco": (SMALL, LINEAR, 0.02),
    "mocov3": (SMALL, LINEAR, 0.02),
    "byol": (SMALL, LINEAR, 0.02),
    "simsiam": (SMALL, LINEAR, 0.03),
    "barlow": (SMALL, KNN, 0.03),
    "vicreg": (SMALL, KNN, 0.04),
    "supcon": (SMALL, KNN, 0.05),
    "clip": (SMALL, "zero-shot by captions", 0.5),
    "rotation": (SMALL, "rotations told", 0.3),
    "jigsaw": (SMALL, "orders told", 0.3),
    "colourisation": (("--data", "photos", "--epochs", 3), "pixels coloured rightly", 0.08),
    "mae": (("--batch-size", 128, "--epochs", 100), LINEAR, 0.1),
    "gan": (("--epochs", 30), "made images like real ones", 0.1),
    "finetune": (("--epochs", 10), "accuracy", 0.5),
    "wav2vec": (("--epochs", 2), "hidden frames told apart", 0.02),
    "two-tower": (("--epochs", 5), "recall at 10", 0.4),
    "links": ((), "AUC of links against random pairs", 0.05),
}
ELSEWHERE = {"bert", "gpt", "distil"}  # test_bert, test_gpt, and below


def test_no_method_is_forgotten():
    assert set(LEARNS) | ELSEWHERE == set(METHODS)


@pytest.mark.learned
@pytest.mark.parametrize("name", LEARNS)
def test_it_beats_its_untrained_encoder(tmp_path, name):
    options, measure, margin = LEARNS[name]
    result = train(name, *options, "--out", tmp_path)
    assert result.exit_code == 0, result.output
    before, after = measured(tmp_path)[measure]
    assert after > before + margin


@pytest.mark.learned
def test_a_student_beats_its_untrained_self(tmp_path):
    train("simclr", *SMALL, "--out", tmp_path / "teacher")
    options = ("--teacher", tmp_path / "teacher", "--epochs", 60, "--batch-size", 128)
    result = train("distil", *options, "--out", tmp_path / "student")
    assert result.exit_code == 0, result.output
    before, after = measured(tmp_path / "student")[KNN]
    assert after > before + 0.02


@pytest.mark.slow
@pytest.mark.parametrize("name", METHODS)
def test_a_smoke_run(tmp_path, name):
    """Each in seconds; that it is no more than a minute is not timed, since machines differ."""
    extra: tuple[object, ...] = ()
    if name == "colourisation":
        extra = ("--data", "photos")
    if name in ("distil", "finetune"):
        untrained(tmp_path / "first", "simclr")
        extra = ("--teacher" if name == "distil" else "--run", tmp_path / "first")
    result = train(name, "--smoke", *extra, "--out", tmp_path / "run")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "run" / "summary.md").exists()


def test_the_docs_have_every_method():
    text = (Path(__file__).parents[2] / "docs" / "training.md").read_text()
    assert [name for name in METHODS if f"| `{name}`" not in text] == []
