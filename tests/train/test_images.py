"""Digits, folders of IDX files, and what is said of files that are not as they should be."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import pytest
import torch

from sslkernels.train import images
from sslkernels.train.errors import TrainError
from sslkernels.train.images import load

FILES = {
    "train-images-idx3-ubyte": torch.arange(60 * 20).remainder(251).view(60, 4, 5),
    "train-labels-idx1-ubyte": torch.arange(60) % 10,
    "t10k-images-idx3-ubyte": torch.arange(10 * 20).remainder(127).view(10, 4, 5),
    "t10k-labels-idx1-ubyte": torch.arange(10),
}


def encoded(numbers: torch.Tensor) -> bytes:
    """As an IDX file, by its description alone."""
    header = struct.pack(f">HBB{numbers.dim()}I", 0, 8, numbers.dim(), *numbers.shape)
    return header + bytes(numbers.flatten().int().tolist())


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "idx"
    folder.mkdir()
    for name, numbers in FILES.items():
        (folder / name).write_bytes(encoded(numbers))
    return folder


def assert_is_what_the_files_say(data: images.Images) -> None:
    parts = (data.train[:, 0], data.train_labels, data.test[:, 0], data.test_labels)
    for part, numbers in zip(parts, FILES.values(), strict=True):
        assert part.tolist() == numbers.tolist()
    assert data.train.dtype is data.test.dtype is torch.uint8
    assert data.train.shape == (60, 1, 4, 5)
    assert data.train_labels.dtype is data.test_labels.dtype is torch.int64


def test_digits():
    data = load("digits")
    assert data.train.shape == (1437, 1, 8, 8) and data.test.shape == (360, 1, 8, 8)
    assert data.train.dtype == torch.uint8
    assert data.train.min() == 0 and data.train.max() == 255
    assert set(data.train_labels.tolist()) == set(data.test_labels.tolist()) == set(range(10))


def test_a_folder_of_idx_files(folder):
    assert_is_what_the_files_say(load(str(folder)))


def test_compressed_files(folder):
    for path in list(folder.iterdir()):
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert_is_what_the_files_say(load(str(folder)))


def test_fashion_mnist_is_such_a_folder(folder, monkeypatch):
    monkeypatch.setattr(images, "FASHION_MNIST", folder)
    assert_is_what_the_files_say(load("fashion-mnist"))


def test_fashion_mnist_that_is_not_installed(tmp_path, monkeypatch):
    monkeypatch.setattr(images, "FASHION_MNIST", tmp_path / "none")
    with pytest.raises(TrainError, match=r"no .*none: apt install dataset-fashion-mnist"):
        load("fashion-mnist")


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(TrainError, match="unknown data 'mnist': known are digits, fashion-mnist"):
        load("mnist")


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("train-images-idx3-ubyte", lambda b: b"", "begins with nothing, not 00000803"),
        ("train-images-idx3-ubyte", lambda b: b"\x89PNG" + b[4:], "begins with 89504e47"),
        ("t10k-images-idx3-ubyte", lambda b: encoded(torch.arange(10)), "with 3 dimensions"),
        ("t10k-labels-idx1-ubyte", lambda b: b[:3] + b"\x02" + b[4:], "not 00000801"),
        ("train-images-idx3-ubyte", lambda b: b[:9], "truncated: 9 bytes, its header alone has 16"),
        ("train-images-idx3-ubyte", lambda b: b[:-1], "make 1216 bytes, it has 1215"),
        ("train-labels-idx1-ubyte", lambda b: b + b"0", "make 68 bytes, it has 69"),
        ("t10k-images-idx3-ubyte", lambda b: encoded(torch.zeros(0, 4, 5)), "is empty"),
    ],
)
def test_a_corrupt_file_is_named(folder, name, change, message, compressed):
    path = folder / name
    content = change(path.read_bytes())
    if compressed:
        path.unlink()
        path = path.with_name(f"{name}.gz")
        content = gzip.compress(content)
    path.write_bytes(content)
    with pytest.raises(TrainError, match=message) as raised:
        load(str(folder))
    assert str(path) in str(raised.value)


@pytest.mark.parametrize("change", [lambda b: b[:-9], lambda b: b"no gzip", lambda b: b[:30]])
def test_what_cannot_be_uncompressed_is_named(folder, change):
    path = folder / "t10k-images-idx3-ubyte"
    packed = change(gzip.compress(path.read_bytes()))
    path.unlink()
    path = path.with_name(f"{path.name}.gz")
    path.write_bytes(packed)
    with pytest.raises(TrainError, match="cannot read") as raised:
        load(str(folder))
    assert str(path) in str(raised.value)


def test_a_missing_file_is_named(folder):
    (folder / "t10k-labels-idx1-ubyte").unlink()
    with pytest.raises(TrainError, match=r"has no t10k-labels-idx1-ubyte, and no .*\.gz"):
        load(str(folder))


def test_labels_that_are_not_as_many_as_the_images(folder):
    path = folder / "train-labels-idx1-ubyte"
    path.write_bytes(encoded(torch.zeros(59)))
    with pytest.raises(TrainError, match=r"idx3-ubyte has 60 images, .*idx1-ubyte 59 labels"):
        load(str(folder))


def test_images_of_two_sizes(folder):
    (folder / "t10k-images-idx3-ubyte").write_bytes(encoded(torch.zeros(10, 5, 4)))
    with pytest.raises(TrainError, match="train and t10k images differ in size, 4 x 5 and 5 x 4"):
        load(str(folder))


def test_the_first_images(folder):
    data = load(str(folder)).first(7)
    assert data.train.tolist() == load(str(folder)).train[:7].tolist()
    assert len(data.train_labels) == 7 and len(data.test) == len(data.test_labels) == 10
    for count in (0, 61):
        with pytest.raises(TrainError, match=rf"images is {count}, must be in 1\.\.60"):
            load(str(folder)).first(count)


def test_the_fingerprint_tells_other_images(folder):
    data = load(str(folder))
    assert data.fingerprint == load(str(folder)).fingerprint
    assert data.fingerprint != data.first(59).fingerprint
    (folder / "train-images-idx3-ubyte").write_bytes(encoded(torch.zeros(60, 4, 5)))
    assert data.fingerprint != load(str(folder)).fingerprint
