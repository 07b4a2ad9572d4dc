"""Whole training steps: the scripts do the same work; nothing here asserts a time."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from typer.testing import CliRunner

import sslkernels
from benchmarks import cli
from benchmarks.linear_cross_entropy import dense, dense_gathered
from benchmarks.training import bert, simclr, trainer
from benchmarks.training.measure import Script, measure
from benchmarks.training.phases import DATA, PHASES, Clock, step
from sslkernels.train.registry import METHODS
from sslkernels.train.run import pretrain
from sslkernels.train.transformer import Size


def test_a_step_with_a_seam_is_the_step() -> None:
    torch.manual_seed(0)
    network, x = nn.Linear(5, 3), torch.randn(7, 5)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    network(x).square().sum().backward()
    wanted = [p.grad.clone() for p in network.parameters() if p.grad is not None]
    clock = Clock()
    step(clock, optimizer, lambda: [network(x)], lambda z: z.square().sum())
    for p, gradient in zip(network.parameters(), wanted, strict=True):
        assert p.grad is not None
        torch.testing.assert_close(p.grad, gradient)
    assert set(clock.seconds) == set(PHASES) - {DATA}


def test_simclr_scripts_train_the_same_network() -> None:
    views = torch.rand(2, 2, 16, 1, 12, 12)

    def batches(steps: int) -> Iterator[Tensor]:
        return iter(views[:steps])

    trained = []
    for loss in (sslkernels.nt_xent, simclr.eager_nt_xent):
        script = simclr.SimCLR("one", batches, loss, 16, "float32")
        script.run(2, Clock())
        trained.append([p.detach() for p in script.model.parameters()])
    for ours, theirs in zip(*trained, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-3, atol=1e-4)


def test_simclr_scripts_have_the_encoder_that_is_wanted() -> None:
    images = torch.randint(0, 256, (20, 1, 12, 12), dtype=torch.uint8)
    found = simclr.scripts(images, batch=8, workers=0, precision="float32", width=6)
    for script in found:
        assert isinstance(script, simclr.SimCLR)
        convolutions = [one for one in script.model.modules() if isinstance(one, nn.Conv2d)]
        assert convolutions[0].out_channels == 6 and convolutions[-1].out_channels == 4 * 6


def test_image_by_image_and_in_one_pass_make_such_batches() -> None:
    images = torch.randint(0, 256, (20, 1, 12, 12), dtype=torch.uint8)
    size = (12, 12)
    by_image = simclr.ImageByImage(images, simclr._by_torchvision(size), 8, 0)
    for source in (simclr.InOnePass(images, 8), by_image):
        for _ in range(2):  # a second turn draws from a second pass through the images
            views = list(source(3))
            assert [tuple(one.shape) for one in views] == [(2, 8, 1, 12, 12)] * 3
            assert all(one.dtype == torch.float32 and -1 <= one.min() < one.max() for one in views)
            assert not torch.equal(views[0][0], views[0][1])


def test_bert_heads_train_the_same_network() -> None:
    rows = torch.randint(5, 60, (30, 16))
    trained = []
    for head in (sslkernels.masked_lm_loss, bert.flattened(dense), bert.flattened(dense_gathered)):
        script = bert.Bert(
            "one", bert.Masker(60), head, rows,
            batch=4, vocab_size=60, size=Size(16, 32, 1), precision="float32",
        )  # fmt: skip
        torch.manual_seed(1)
        script.run(2, Clock())
        # Not the weights: Adam makes a whole step of the rounding of a gradient that is zero.
        trained.append([p.grad for p in script.encoder.parameters() if p.grad is not None])
    for ours, *theirs in zip(*trained, strict=True):
        for other in theirs:
            torch.testing.assert_close(ours, other, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize("masking", [bert.Masker(600), bert.Collator(600)], ids=["ours", "theirs"])
def test_maskings_follow_the_rule(masking: bert.Masking) -> None:
    torch.manual_seed(0)
    ids = torch.randint(5, 600, (64, 128))
    ids[:, 0] = bert.SPECIAL_IDS[1]
    masked, labels = masking(ids, 3)
    chosen = labels != bert.IGNORED
    assert not chosen[:, 0].any()
    assert torch.equal(labels[chosen], ids[chosen]) and torch.equal(masked[~chosen], ids[~chosen])
    # Binomial: 8128 tokens, then some 1200 of them; five deviations.
    assert abs(chosen[:, 1:].double().mean() - 0.15) < 0.02
    assert abs((masked[chosen] == bert.MASK).double().mean() - 0.8) < 0.06


def of_trainer(method: str) -> list[Script]:
    small = dict(METHODS[method].family.smoke)
    for name in ("epochs", "batch_size"):
        small.pop(name, None)
    return trainer.scripts(method, None, batch=16, precision="float32", **small)


@pytest.mark.parametrize("method", ["gpt", "two-tower"])
def test_dense_losses_train_the_same_network(method: str) -> None:
    gradients = []
    for script in of_trainer(method):
        assert isinstance(script, trainer.OfTrainer)
        script.run(1, Clock())
        found = {name: p.grad for name, p in script.trainer.method.named_parameters()}
        gradients.append({name: x for name, x in found.items() if x is not None})
    ours, theirs = gradients
    assert ours.keys() == theirs.keys()
    for name, gradient in ours.items():
        assert gradient.abs().max() > 0, name
        torch.testing.assert_close(gradient, theirs[name], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("method", ["moco", "gan"])  # a teacher, and two turns
def test_any_method_has_phases(method: str) -> None:
    for script in of_trainer(method):
        clock = Clock()
        script.run(1, clock)
        assert all(clock.seconds[phase] > 0 for phase in PHASES)


def test_ratios_are_ours_over_theirs() -> None:
    class Counting(Script):
        def __init__(self, name: str, items: int) -> None:
            self.name, self.items, self.steps = name, items, 0

        def run(self, steps: int, clock: Clock) -> None:
            self.steps += steps

    ours, theirs = Counting("ours", 10**9), Counting("theirs", 1)
    found = measure([ours, theirs], steps=2, rounds=3, report=lambda line: None)
    assert [one.name for one in found] == ["ours", "theirs"]
    assert ours.steps == theirs.steps == 1 + 2 * 3
    assert found[0].ratio.median == 1.0 and found[1].ratio.median > 1.0
    assert len(found[0].rates) == 3


def test_command_writes_results_and_a_page(tmp_path: Path) -> None:
    out = tmp_path / "training.json"
    arguments = "training simclr --data digits --batch-size 16 --workers 0 --steps 1 --rounds 1"
    done = CliRunner().invoke(cli.app, [*arguments.split(), "--threads", "1", "--out", str(out)])
    assert done.exit_code == 0, done.output
    measured = json.loads(out.read_text())
    names = [one["name"] for one in measured["scripts"]]
    assert names[0] == "sslkernels" and len(names) >= 2
    page = out.with_suffix(".md").read_text()
    assert all(f"| {name} |" in page for name in names)


def test_a_student_has_the_teacher_that_is_named(tmp_path: Path) -> None:
    teacher, out = tmp_path / "teacher", tmp_path / "training.json"
    entry = METHODS["simclr"]
    options = entry.family.options(data="digits", smoke=True, out=teacher)
    pretrain(entry, options, {name: x.default for name, x in entry.own.items()})
    arguments = "training distil --data digits --batch-size 16 --steps 1 --rounds 1 --threads 1"
    done = CliRunner().invoke(
        cli.app, [*arguments.split(), "--teacher", str(teacher), "--out", str(out)]
    )
    assert done.exit_code == 0, done.output
    measured = json.loads(out.read_text())
    names = [one["name"] for one in measured["scripts"]]
    assert names == ["sslkernels", "torchvision and dense losses"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("nothing", "METHOD: got 'nothing'"),
        ("distil --data digits", "distil wants --teacher"),
        ("moco --data digits --batch-size 5000", "batch size is 5000, but there are"),
        ("simclr --data digits --batch-size 5000", "--batch-size: 5000 is more than"),
        ("moco --data digits --teacher nowhere", "--teacher: of distil, moco has none"),
        ("distil --data digits --teacher nowhere", "nowhere"),
        ("simclr --data digits --steps 0", "--steps: must be at least 1"),
        ("bert --precision int8", "--precision: got 'int8'"),
        ("simclr --data nowhere", "nowhere"),
        ("simclr --data digits --width 0", "--width: must be at least 1, got 0"),
        ("bert --width 24", "--width: of simclr, bert"),
    ],
)
def test_bad_input_is_one_line(arguments: str, message: str, tmp_path: Path) -> None:
    out = tmp_path / "training.json"
    done = CliRunner().invoke(cli.app, ["training", *arguments.split(), "--out", str(out)])
    assert done.exit_code == 2
    assert message in done.output and "Traceback" not in done.output
    assert not out.exists()
