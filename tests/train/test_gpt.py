from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sslkernels.train.logging import read_csv
from sslkernels.train.methods import gpt
from sslkernels.train.methods.gpt import Gpt
from sslkernels.train.text.examples import Windows
from sslkernels.train.text.score import evaluate
from sslkernels.train.transformer import Size


def losses(out):
    rows = read_csv(out / "metrics.csv")
    return torch.tensor([float(row["loss"]) for row in rows], dtype=torch.float64)


def make() -> tuple[Gpt, torch.Tensor]:
    torch.manual_seed(0)
    method = Gpt(300, Size(16, 32, 2)).double()
    return method, torch.randint(300, (5, 16))


def test_a_run_learns_and_shows_its_result(text_run, tmp_path):
    out = tmp_path / "run"
    result = text_run("gpt", out, "--epochs", "4", "--lr", "1e-2")
    assert result.exit_code == 0, result.output
    assert "perplexity" in result.output and "next tokens guessed" in result.output
    assert (out / "tokenizer.json").exists()
    # A uniform guess costs log 300 = 5.7; which subject and verb come next costs log 16 a line.
    assert losses(out)[0] > 5
    assert losses(out)[-5:].mean() < 2


def test_fused_and_eager_give_one_curve(text_run, tmp_path):
    for loss in ("fused", "eager"):
        text_run("gpt", tmp_path / loss, "--loss", loss, "--precision", "float64")
    fused, eager = losses(tmp_path / "fused"), losses(tmp_path / "eager")
    assert len(fused) > 20
    torch.testing.assert_close(fused, eager, rtol=1e-10, atol=0)


def test_the_curve_tells_a_wrong_gradient(text_run, tmp_path, monkeypatch):
    monkeypatch.setitem(
        gpt.LOSSES, "fused", lambda hidden, w, labels: gpt.eager(hidden, w.detach(), labels)
    )
    for loss in ("fused", "eager"):
        text_run("gpt", tmp_path / loss, "--loss", loss, "--precision", "float64")
    fused, eager = losses(tmp_path / "fused"), losses(tmp_path / "eager")
    assert fused[0] == eager[0]
    assert (fused - eager).abs()[1:].min() > 1e-8


def test_a_stopped_and_resumed_run_is_the_unbroken_one(text_run, tmp_path, stopped_at):
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    text_run("gpt", whole)
    assert len(losses(whole)) > 25
    with stopped_at(25):
        assert text_run("gpt", broken).exit_code == 130
    assert text_run("gpt", broken, "--resume").exit_code == 0
    assert torch.equal(losses(whole), losses(broken))


def test_no_token_sees_the_next():
    method, ids = make()
    other = ids.clone()
    other[:, 9:] = (other[:, 9:] + 1) % 300
    before, after = method.encoder(ids), method.encoder(other)
    assert torch.equal(before[:, :9], after[:, :9])
    assert (before[:, 9:] != after[:, 9:]).any(dim=2).all()


def test_what_is_trained_and_scored_is_the_next_token():
    method, ids = make()
    logits = method.encoder(ids) @ method.encoder.tokens.weight.T
    expected = F.cross_entropy(logits[:, :-1].transpose(1, 2), ids[:, 1:])
    loss = method({"ids": ids})
    torch.testing.assert_close(loss, expected, rtol=1e-12, atol=0)

    score = method.score({"ids": ids})
    assert score.tokens == 5 * 15
    assert score.perplexity == pytest.approx(expected.exp().item(), rel=1e-10)
    right = (logits[:, :-1].argmax(2) == ids[:, 1:]).double().mean()
    assert score.accuracy == pytest.approx(right.item())


def test_held_out_text_shorter_than_a_window(text_run, tmp_path):
    result = text_run("gpt", tmp_path / "run", "--length", "5000")
    assert result.exit_code == 2
    assert "error: length is 5000, but only " in result.output
    assert not (tmp_path / "run").exists()


def test_scores_of_parts_add_up():
    method, ids = make()
    windows = Windows([ids.flatten()], length=16)
    whole, parts = evaluate(method, windows), evaluate(method, windows, batch_size=2)
    assert whole.tokens == parts.tokens and whole.tokens_right == parts.tokens_right
    assert whole.loss == pytest.approx(parts.loss, rel=1e-12)
