"""Folders of pictures, and what is said of those that cannot be read."""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
import torch

from sslkernels.train.errors import TrainError
from sslkernels.train.images import load
from sslkernels.train.methods.supcon import SupCon
from sslkernels.train.pictures import decode
from tests.train.commands import train

Image = pytest.importorskip("PIL.Image", reason="Pillow is not installed")


def write(path: Path, colour: tuple[int, int, int] | int, size: tuple[int, int] = (12, 8)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB" if isinstance(colour, tuple) else "L", size, colour).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Ten red and ten blue pictures, each a little different."""
    folder = tmp_path / "pictures"
    for i in range(10):
        write(folder / "red" / f"{i}.png", (200 + i, 0, 0))
        write(folder / "blue" / f"{i}.png", (0, 0, 200 + i))
    return folder


def test_classes_are_subfolders_and_every_fifth_picture_is_held_out(folder):
    data = load(str(folder), size=4)
    assert data.names == ("blue", "red") and not data.note
    assert data.train.shape == (16, 3, 4, 4) and data.test.shape == (4, 3, 4, 4)
    for images, labels in ((data.train, data.train_labels), (data.test, data.test_labels)):
        assert torch.equal((images[:, 0] > images[:, 2]).all((1, 2)), labels == 1)
    shades = torch.cat([data.train, data.test]).amax((1, 2, 3))
    assert sorted(shades.tolist()) == sorted([*range(200, 210)] * 2)


def test_train_and_test_folders_are_taken_as_they_are(folder, tmp_path):
    for part in ("train", "test"):
        write(tmp_path / "split" / part / "a" / "x.png", 10)
        write(tmp_path / "split" / part / "b" / "x.png", 20)
    data = load(str(tmp_path / "split"), size=4)
    assert sorted(data.train[:, 0, 0, 0].tolist()) == [10, 20] == data.test[:, 0, 0, 0].tolist()
    write(tmp_path / "split" / "test" / "c" / "x.png", 20)
    with pytest.raises(TrainError, match=r"train and test differ in their classes: \['c'\]"):
        load(str(tmp_path / "split"), size=4)


def test_the_middle_square_is_taken(tmp_path):
    image = Image.new("L", (16, 8), 0)
    image.paste(255, (4, 0, 12, 8))
    (tmp_path / "flat").mkdir()
    for i in range(5):
        image.save(tmp_path / "flat" / f"{i}.png")
    data = load(str(tmp_path / "flat"), size=4)
    with pytest.raises(TrainError, match="the data has no classes, which supcon is about"):
        SupCon.made_for(data.facts)
    assert data.names == () and (data.train == 255).all() and data.train.shape == (4, 1, 4, 4)


def test_bad_pictures_are_named_and_counted(folder):
    bad = [folder / "red" / "9z.png", folder / "blue" / "torn.jpg"]
    bad[0].write_bytes(b"no picture")
    content = (folder / "blue" / "0.png").read_bytes()
    bad[1].write_bytes(content[: len(content) // 2])
    data = load(str(folder), size=4)
    assert len(data.train) + len(data.test) == 20
    assert data.note.startswith("2 of 22 pictures skipped: ")
    assert all(str(path) in data.note for path in bad)
    with pytest.raises(TrainError, match="2 of 22 pictures cannot be read") as raised:
        load(str(folder), size=4, strict=True)
    assert str(bad[0]) in str(raised.value)


def test_many_bad_pictures_do_not_flood_the_message(folder):
    for i in range(9):
        (folder / "red" / f"bad{i}.png").write_bytes(b"")
    note = load(str(folder), size=4).note
    assert note.count("/bad") == 3 and note.endswith("; and 6 more")


def test_nothing_to_read(tmp_path):
    with pytest.raises(TrainError, match="no pictures in "):
        load(str(tmp_path))
    (tmp_path / "a.png").write_bytes(b"")
    with pytest.raises(TrainError, match=r"none of 1 pictures in .* can be read: .*a\.png"):
        load(str(tmp_path))


def test_a_run_says_what_it_skipped_and_strict_stops_it(folder, tmp_path):
    (folder / "red" / "torn.png").write_bytes(b"torn")
    arguments = ("--data", folder, "--size", 8, "--epochs", 1, "--batch-size", 8)
    out = tmp_path / "run"
    result = train("simclr", "--out", out, *arguments)
    assert result.exit_code == 0, result.output
    assert "1 of 21 pictures skipped: " in result.output and "torn.png" in result.output
    result = train("simclr", "--out", tmp_path / "other", *arguments, "--strict")
    assert result.exit_code == 2 and "torn.png" in result.output
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("form", ["png", "tiff", "pgm"])
def test_grey_of_16_bits_is_not_cut_off(tmp_path, form):
    shades = [0, 128, 129, 257, 12850, 32896, 65278, 65535] * 8
    path = tmp_path / f"x.{form}"
    Image.frombytes("I;16", (8, 8), struct.pack("<64H", *shades)).save(path)
    pixels = decode(path, 8, Image.open)
    assert isinstance(pixels, torch.Tensor), pixels
    assert pixels[0].tolist() == [[0, 0, 1, 1, 50, 128, 254, 255]] * 8


@pytest.mark.parametrize(
    ("mode", "content", "message"),
    [
        ("F", struct.pack("4f", 0, 0.5, 0.5, 1), "ValueError: numbers from 0 to 1, whose"),
        ("I", struct.pack("4i", 0, 5, 5, 2**16), "ValueError: numbers from 0 to 65536, whose"),
        ("I", struct.pack("4i", -1, 5, 5, 9), "ValueError: numbers from -1 to 9, whose"),
    ],
)
def test_numbers_that_may_mean_anything_are_a_reason(tmp_path, mode, content, message):
    path = tmp_path / "x.tiff"
    Image.frombytes(mode, (2, 2), content).save(path)
    found = decode(path, 4, Image.open)
    assert isinstance(found, str) and found.startswith(message)


def test_a_run_without_classes_says_that_nothing_is_measured(folder, tmp_path):
    arguments = ("--data", folder / "red", "--batch-size", 8, "--epochs", 1)
    result = train("simclr", "--out", tmp_path / "run", *arguments)
    assert result.exit_code == 0, result.output
    assert result.output.startswith("fewer than two classes: neither kNN accuracy nor")
    summary = (tmp_path / "run" / "summary.md").read_text()
    for text in (result.output, summary):
        assert "untrained" not in text and "Accuracy on" not in text
    assert "\n\n1 steps, the last with loss" in summary
