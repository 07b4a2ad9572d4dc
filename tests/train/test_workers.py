"""Worker processes: the same files, batches and curve, whatever their number."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from rich.console import Console

from sslkernels.train.errors import TrainError
from sslkernels.train.loop import Manner, fit
from sslkernels.train.methods.simclr import SimCLR
from sslkernels.train.views import Views, tiny_grey
from sslkernels.train.workers import mapped
from tests.train.commands import losses, train
from tests.train.test_pictures import write as write_picture
from tests.train.test_sounds import SAMPLES, tone
from tests.train.test_sounds import write as write_sound

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    for i in range(20):
        write_picture(tmp_path / "pictures" / "ab"[i % 2] / f"{i:02}.png", (200 + i, 10 * i, 0))
    (tmp_path / "pictures" / "a" / "torn.png").write_bytes(b"torn")
    return tmp_path / "pictures"


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for i in range(10):
        write_sound(tmp_path / "sounds" / "ab"[i % 2] / f"{i}.wav", tone(SAMPLES + i))
    (tmp_path / "sounds" / "a" / "torn.wav").write_bytes(b"torn")
    return tmp_path / "sounds"


CASES = {
    "simclr": ("pictures", ("--size", 8, "--batch-size", 8, "--accumulate", 2)),
    "wav2vec": ("sounds", ("--batch-size", 4)),
}


@pytest.mark.parametrize("name", CASES)
def test_the_curve_does_not_depend_on_workers(request, tmp_path, stopped_at, name):
    """Stopped within the second epoch with two of them, and gone on with none: the unbroken run."""
    data, options = CASES[name]
    folder = request.getfixturevalue(data)
    arguments = (name, "--data", folder, *options, "--epochs", 3)
    result = train(*arguments, "--out", tmp_path / "whole")
    assert result.exit_code == 0, result.output
    with stopped_at(3):
        result = train(*arguments, "--out", tmp_path / "broken", "--workers", 2)
    assert result.exit_code == 130, result.output
    assert f"1 of {len([*folder.rglob('*.*')])} {data} skipped: " in result.output
    result = train(*arguments, "--out", tmp_path / "broken", "--resume")
    assert result.exit_code == 0, result.output
    assert len(losses(tmp_path / "whole")) == 6
    assert torch.equal(losses(tmp_path / "whole"), losses(tmp_path / "broken"))
    first, second = (
        torch.load(tmp_path / out / "checkpoint.pt")["model"] for out in ("whole", "broken")
    )
    assert all(torch.equal(value, second[key]) for key, value in first.items())


@pytest.mark.parametrize("workers", [0, 2])
def test_items_come_in_order_and_draw_nothing(workers):
    before = torch.get_rng_state()
    assert [*mapped(str, iter(range(20)), workers)] == [*map(str, range(20))]
    assert torch.equal(torch.get_rng_state(), before)


def fail(item: int) -> int:
    raise KeyError(f"item {item}")


@pytest.mark.parametrize("workers", [0, 1])
def test_what_a_worker_raises_is_raised(workers):
    with pytest.raises(KeyError, match="item 7"):
        next(mapped(fail, [7], workers))


def test_a_dead_worker_is_an_error():
    with pytest.raises(TrainError, match=r"a worker is gone: DataLoader worker \(pid"):
        next(mapped(os._exit, [1], 1))


def test_a_negative_number_is_refused(tmp_path):
    result = train("simclr", "--workers", -1, "--out", tmp_path / "run")
    assert result.exit_code == 2 and "error: workers is -1, must be at least 0" in result.output
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("workers", [0, 1])
def test_each_epoch_has_all_examples_in_an_order_of_its_own(settings, images, tmp_path, workers):
    class Told(Views):
        def batch(self, index: torch.Tensor, epoch: int) -> torch.Tensor:
            with (tmp_path / "told").open("a") as file:  # a worker cannot write into a list here
                file.write(f"{epoch} {' '.join(map(str, index.tolist()))}\n")
            return super().batch(index, epoch)

    data = Told(images[:20], tiny_grey((8, 8)), seed=0)
    run = settings(epochs=2, batch_size=10, accumulate=2)
    fit(
        SimCLR((1, 8, 8)),
        data,
        run,
        out=tmp_path / "run",
        console=Console(quiet=True),
        manner=Manner(workers=workers),
    )
    told = [[*map(int, line.split())] for line in (tmp_path / "told").read_text().splitlines()]
    assert [(epoch, len(numbers)) for epoch, *numbers in told] == [(0, 5)] * 4 + [(1, 5)] * 4
    orders = [[x for e, *numbers in told if e == epoch for x in numbers] for epoch in (0, 1)]
    assert sorted(orders[0]) == sorted(orders[1]) == [*range(20)] and orders[0] != orders[1]
