"""Magnitude pruning of a finished run's encoder."""

from __future__ import annotations

import pytest
import torch

from sslkernels.train import checkpoint
from sslkernels.train.after.prune import held_out_loss, pruned, report
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.evaluate import evaluate
from sslkernels.train.finished import read
from sslkernels.train.images import digits
from sslkernels.train.loop import CHECKPOINT
from sslkernels.train.methods.image import ImageMethod
from sslkernels.train.registry import METHODS
from tests.train.commands import train, untrained

WEIGHTS = 9 * 32 * (1 + 64 + 64 * 4)  # of the three convolutions of a small_convnet, width 32


@pytest.fixture
def run(tmp_path):
    return untrained(tmp_path / "run", "simclr")


def weights(method):
    return torch.cat(
        [x.weight.flatten() for x in method.encoder.modules() if x.__class__.__name__ == "Conv2d"]
    )


def test_the_smallest_weights_of_all_layers_go(run):
    method = read(run).method
    before = weights(method).clone()
    after = weights(pruned(method, 0.7))
    assert len(before) == WEIGHTS and torch.equal(weights(method), before)
    gone = after == 0
    assert int(gone.sum()) == round(0.7 * WEIGHTS)
    assert torch.equal(after[~gone], before[~gone])
    assert before[gone].abs().max() <= before[~gone].abs().min()


def test_the_report_of_a_run(run):
    finished, data = read(run), digits()
    none, most = report(run, (0.0, 0.99))
    assert none.weights == WEIGHTS and most.weights == WEIGHTS - round(0.99 * WEIGHTS)
    assert none.knn == evaluate(finished.method.encoder, data).knn
    assert none.loss == held_out_loss(finished.method, data, 64) != most.loss
    assert none.knn > most.knn


def test_the_loss_is_the_method_s_own(run):
    """Of all but the rest of a batch, which training leaves out, too."""
    method, data = read(run).method, digits()
    seen = []
    method.register_forward_hook(lambda _, given, loss: seen.append((given[0], loss.item())))
    loss = held_out_loss(method, data, 100)
    assert [batch.shape for batch, _ in seen] == [(2, 100, 1, 8, 8)] * 3
    assert loss == pytest.approx(sum(one for _, one in seen) / 3)
    assert held_out_loss(method, data, 1000) == pytest.approx(seen[-1][1]) and len(seen) == 4
    assert seen[-1][0].shape[1] == 360


ALONE = [
    name
    for name, entry in METHODS.items()
    if issubclass(entry.method, ImageMethod) and name not in ("distil", "finetune", "colourisation")
]


@pytest.mark.parametrize("name", ALONE)
def test_every_method_has_a_report(tmp_path, name):
    rows = report(untrained(tmp_path / name, name), (0.5,))
    assert torch.tensor([rows[0].loss, rows[0].knn]).isfinite().all()


def test_the_table(run):
    result = train("prune", run, "--sparsity", 0, "--sparsity", 0.5)
    assert result.exit_code == 0, result.output
    for text in ("Magnitude pruning", "sparsity", "kNN accuracy", "0.0%", "50.0%", f"{WEIGHTS:,}"):
        assert text in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("nowhere",), "there is no nowhere"),
        (("RUN", "--sparsity", 1), "sparsity is 1.0, must be at least 0 and below 1"),
        (("RUN", "--sparsity", -0.1), "sparsity is -0.1, must be at least 0 and below 1"),
        (("RUN", "--sparsity", "nan"), "sparsity is nan, must be at least 0 and below 1"),
        (("RUN", "--data", "nothing"), "unknown data 'nothing'"),
        (("RUN", "--data", "photos"), "photos has images of [3, 32, 32], the run's are [1, 8, 8]"),
    ],
)
def test_what_cannot_be_pruned_says_so(run, arguments, message):
    result = train("prune", *(run if x == "RUN" else x for x in arguments))
    assert result.exit_code == 2 and f"error: {message}" in result.output


@pytest.mark.parametrize("command", ["prune", "export"])
def test_a_run_on_text_is_refused(tmp_path, command):
    checkpoint.save(tmp_path / CHECKPOINT, Checkpoint({"method": "gpt"}, 0, {}, {}, {}, []))
    result = train(command, tmp_path)
    assert result.exit_code == 2
    assert "is a run of 'gpt', not of a method that learns from images" in result.output
