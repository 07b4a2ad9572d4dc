"""Every method: it runs, goes on after a kill as if there had been none, and learns something."""

from __future__ import annotations

import pytest
import torch

from sslkernels.train.methods.gan import covered
from sslkernels.train.registry import METHODS
from tests.train.commands import losses, train

# Methods with something of their own to save: a queue and a teacher, two optimizers, draws.
KEEPERS = {
    "moco": ("--images", 128, "--batch-size", 32, "--queue", 100),
    "gan": ("--images", 128, "--batch-size", 32),
    "mae": ("--images", 128, "--batch-size", 32),
    "simclr": ("--images", 128, "--batch-size", 32, "--optimizer", "lars", "--lr", 1),
}


@pytest.mark.parametrize("name", KEEPERS)
def test_a_killed_and_resumed_run_is_the_unbroken_one(tmp_path, stopped_at, name):
    """Killed within the second epoch: four steps are done again, with the draws they had."""
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    arguments = (name, *KEEPERS[name], "--epochs", 3)
    assert train(*arguments, "--out", whole).exit_code == 0
    with stopped_at(6):
        assert train(*arguments, "--out", broken).exit_code == 130
    torch.manual_seed(99)
    assert train(*arguments, "--out", broken, "--resume").exit_code == 0
    assert len(losses(whole)) == 12
    assert torch.equal(losses(whole), losses(broken))
    first, second = (torch.load(out / "checkpoint.pt")["model"] for out in (whole, broken))
    for key, value in first.items():
        assert torch.equal(value, second[key]), key


def test_a_save_within_an_epoch_is_gone_on_from(tmp_path, stopped_at, monkeypatch):
    monkeypatch.setattr("sslkernels.train.loop.SAVE_SECONDS", 0)
    arguments = ("mae", *KEEPERS["mae"], "--epochs", 2)
    assert train(*arguments, "--out", tmp_path / "whole").exit_code == 0
    with stopped_at(7):
        train(*arguments, "--out", tmp_path / "broken")
    assert torch.load(tmp_path / "broken" / "checkpoint.pt")["step"] == 6
    assert train(*arguments, "--out", tmp_path / "broken", "--resume").exit_code == 0
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))


def test_a_checkpoint_of_another_method_is_refused(tmp_path):
    train("byol", *KEEPERS["mae"], "--epochs", 1, "--out", tmp_path)
    result = train("mocov3", *KEEPERS["mae"], "--epochs", 1, "--out", tmp_path, "--resume")
    assert result.exit_code == 2
    assert "is of a run with method 'byol', not 'mocov3'" in result.output


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("moco", "--momentum", 2), "momentum is 2.0, must be in 0..1"),
        (("moco", "--queue", 0), "queue is 0, must be at least 1"),
        (("mae", "--mask", -1), "mask is -1.0, must be in 0..1"),
        (("colourisation",), "images have 1 channel: colourisation wants 3"),
        (("distil",), "distil wants --teacher"),
        (("distil", "--teacher", "nowhere"), "there is no nowhere"),
        (("wav2vec", "--data", "nothing"), "unknown data 'nothing': known are digits, and folders"),
    ],
)
def test_what_cannot_run_says_so(tmp_path, arguments, message):
    result = train(*arguments, "--out", tmp_path / "run")
    assert result.exit_code == 2
    assert f"error: {message}" in result.output
    assert not (tmp_path / "run").exists()


def test_the_teacher_follows():
    teacher_of = METHODS["byol"].method((1, 8, 8), momentum=0.75)
    before = teacher_of.teacher.network[0][0][0].weight.clone()
    with torch.no_grad():
        teacher_of.encoder[0][0].weight.add_(1.0)
    teacher_of.after_step(0.0)
    after = teacher_of.teacher.network[0][0][0].weight
    torch.testing.assert_close(after, before + 0.25)
    teacher_of.after_step(1.0)  # the momentum has risen to 1
    assert torch.equal(after, teacher_of.teacher.network[0][0][0].weight)
    assert not any(p.requires_grad for p in teacher_of.teacher.parameters())


def test_the_queue_holds_the_keys_of_past_batches():
    method = METHODS["moco"].method((1, 8, 8), queue=6)
    views = torch.rand(2, 4, 1, 8, 8)
    keys = torch.nn.functional.normalize(method.teacher(views[1]), dim=1)
    method(views)
    method.after_step(0.1)
    torch.testing.assert_close(method.queue.keys[:4], keys)
    method(views)
    method.after_step(0.2)
    assert int(method.queue.position) == 2


def test_precision_of_points_that_are_inside_outside_and_the_same():
    square = torch.tensor([[0.0, 0.0], [0.0, 1.0], [1.0, 0.0], [1.0, 1.0]])
    assert covered(square, square) == 1
    assert covered(torch.tensor([[0.5, 0.5], [9.0, 9.0]]), square, k=2) == 0.5
