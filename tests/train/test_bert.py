from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sslkernels.train.logging import COLUMNS, read_csv
from sslkernels.train.methods import bert
from sslkernels.train.methods.bert import Bert
from sslkernels.train.text import tokens
from sslkernels.train.text.examples import Pairs
from sslkernels.train.text.score import evaluate
from sslkernels.train.transformer import Size


def losses(out):
    rows = read_csv(out / "metrics.csv")
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


@pytest.fixture
def pairs(folder) -> Pairs:
    loaded = tokens.load(str(folder), 1, 300, resume_from=None)
    return Pairs(loaded.train, length=32, vocab_size=loaded.vocab_size, seed=0)


def make(pairs: Pairs) -> Bert:
    torch.manual_seed(0)
    return Bert(pairs.vocab_size, Size(32, 32, 2)).double()


def test_a_run_learns_shows_its_result_and_leaves_its_files(text_run, tmp_path):
    out = tmp_path / "run"
    arguments = ("--epochs", "8", "--lr", "1e-2")
    result = text_run("bert", out, *arguments)
    assert result.exit_code == 0, result.output
    for text in ("perplexity of masked tokens", "masked tokens guessed", "next sentence told"):
        assert text in result.output
    assert list(read_csv(out / "metrics.csv")[0]) == COLUMNS
    assert {path.name for path in out.iterdir()} == {
        "checkpoint.pt",
        "curves.png",
        "measures.csv",
        "metrics.csv",
        "summary.md",
        "tensorboard",
        "tokenizer.json",
    }
    # A uniform guess costs log 300 = 5.7, and log 2 for the next sentence.
    assert losses(out)[:3].mean() > 5
    assert losses(out)[-5:].mean() < 4.5

    # All epochs are done: nothing to train, the same result.
    again = text_run("bert", out, *arguments, "--resume")
    assert again.exit_code == 0, again.output
    assert again.output.splitlines()[-8:] == result.output.splitlines()[-8:]


def test_fused_and_eager_give_one_curve(text_run, tmp_path):
    for loss in ("fused", "eager"):
        text_run("bert", tmp_path / loss, "--loss", loss, "--precision", "float64")
    fused, eager = losses(tmp_path / "fused"), losses(tmp_path / "eager")
    assert len(fused) > 20
    torch.testing.assert_close(fused, eager, rtol=1e-10, atol=0)


def test_the_curve_tells_a_wrong_gradient(text_run, tmp_path, monkeypatch):
    """The right value without the gradient of the tied weights: the test above can fail."""
    monkeypatch.setitem(
        bert.LOSSES,
        "fused",
        lambda h, w, labels, bias: bert.eager(h, w.detach(), labels, bias=bias),
    )
    for loss in ("fused", "eager"):
        text_run("bert", tmp_path / loss, "--loss", loss, "--precision", "float64")
    fused, eager = losses(tmp_path / "fused"), losses(tmp_path / "eager")
    assert fused[0] == eager[0]
    assert (fused - eager).abs()[1:].min() > 1e-8


@pytest.mark.parametrize("last_step", [3, 25])
def test_a_stopped_and_resumed_run_is_the_unbroken_one(text_run, tmp_path, stopped_at, last_step):
    """Stopped in the first epoch and in the second: masks and pairs are drawn as they were."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    text_run("bert", whole)
    assert 3 < len(losses(whole)) / 2 < 25 < len(losses(whole))
    with stopped_at(last_step):
        assert text_run("bert", broken).exit_code == 130
    assert text_run("bert", broken, "--resume").exit_code == 0
    assert torch.equal(losses(whole), losses(broken))
    first, second = (torch.load(out / "checkpoint.pt")["model"] for out in (whole, broken))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_resume_needs_the_same_text_and_tokenizer(text_run, tmp_path, folder):
    out = tmp_path / "run"
    text_run("bert", out, "--epochs", "1")
    saved = (out / "tokenizer.json").read_text()
    (out / "tokenizer.json").unlink()
    result = text_run("bert", out, "--epochs", "1", "--resume")
    assert result.output.startswith("error: nothing to resume: there is no ")
    (out / "tokenizer.json").write_text(saved)
    (folder / "00.txt").write_text("other text\n")
    result = text_run("bert", out, "--epochs", "1", "--resume")
    assert result.exit_code == 2
    assert "is of a run with text '" in result.output


def test_bf16_trains(text_run, tmp_path):
    result = text_run("bert", tmp_path / "run", "--precision", "bf16", "--lr", "1e-2")
    assert result.exit_code == 0, result.output
    curve = losses(tmp_path / "run")
    assert curve[-3:].mean() < curve[:3].mean() - 1


def test_what_is_trained_is_the_papers_loss(pairs):
    method, batch = make(pairs), pairs.batch(torch.arange(20), 0)
    hidden, following = method.features(batch)
    logits = hidden @ method.encoder.tokens.weight.T + method.bias
    expected = F.cross_entropy(logits.transpose(1, 2), batch["labels"])
    expected += F.cross_entropy(following, batch["random"])
    loss = method(batch)
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)


def test_the_score_is_what_a_count_over_all_logits_says(pairs):
    method = make(pairs)
    batch = pairs.batch(torch.arange(len(pairs)), 0)
    with torch.no_grad():
        hidden, following = method.features(batch)
        logits = hidden @ method.encoder.tokens.weight.T + method.bias
    masked = batch["labels"] >= 0
    score = evaluate(method, pairs, batch_size=7)
    assert score.tokens == masked.sum() and score.pairs == len(pairs)
    mean = F.cross_entropy(logits[masked], batch["labels"][masked])
    assert score.perplexity == pytest.approx(mean.exp().item(), rel=1e-10)
    right = (logits.argmax(2) == batch["labels"])[masked].double().mean()
    assert score.accuracy == pytest.approx(right.item())
    told = (following.argmax(1) == batch["random"]).double().mean()
    assert score.pair_accuracy == pytest.approx(told.item())


def test_padding_is_not_looked_at(pairs):
    method, batch = make(pairs), pairs.batch(torch.arange(len(pairs)), 0)
    padding = ~batch["real"]
    assert padding.any()
    other = {**batch, "ids": batch["ids"].masked_fill(padding, 77)}
    for one, two in zip(method.features(batch), method.features(other), strict=True):
        keep = batch["real"] if one.ndim == 3 else slice(None)
        torch.testing.assert_close(one[keep], two[keep], rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "data is 'nowhere', which does not exist"),
        (["--megabytes", "0"], "megabytes is 0.0, must be positive and finite"),
        (["--vocab-size", "260"], "vocabulary size is 260, must be at least 261"),
        (["--length", "7"], "length is 7, must be at least 8"),
        (["--length", "9000"], "length is 9000, but of 22 documents 0 have"),
        (["--width", "40"], "width is 40, must be a positive multiple of 32"),
        (["--layers", "0"], "layers is 0, must be at least 1"),
        (["--batch-size", "5000"], "batch size is 5000, but there are "),
        (["--epochs", "0"], "epochs is 0, must be at least 1"),
        (["--resume"], "nothing to resume: there is no "),
    ],
)
def test_what_cannot_run_says_so_in_one_line(text_run, tmp_path, arguments, message):
    out = tmp_path / "run"
    result = text_run("bert", out, *arguments)
    assert result.exit_code == 2
    assert f"error: {message}" in result.output
    assert not out.exists()
