"""Labelled images that need no download: scikit-learn's digits, and folders of IDX files."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sslkernels.train import idx
from sslkernels.train.errors import TrainError, require

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist has its files."""


@dataclass(frozen=True)
class Images:
    """Images with labels that only the evaluation reads.

    train, test: uint8 [N, C, H, W]; train_labels, test_labels: int64 [N].
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor

    def first(self, count: int) -> Images:
        """With this many of the training images, and all others for the test.

        Raises:
            TrainError: count is below 1, or above what there is.
        """
        if not 1 <= count <= len(self.train):
            raise TrainError(
                f"images is {count}, must be in 1..{len(self.train)}, the training images there are"
            )
        return Images(self.train[:count], self.train_labels[:count], self.test, self.test_labels)

    @property
    def fingerprint(self) -> str:
        """Of the training images, to tell whether a resumed run has those that it began with."""
        shape = repr(list(self.train.shape)).encode()
        return hashlib.blake2b(shape + self.train.numpy().tobytes(), digest_size=8).hexdigest()


def digits() -> Images:
    """scikit-learn's handwritten digits: 1797 grey images of 8 x 8, the last fifth held out.

    The split keeps the order of the collection: a shuffled split puts digits of one hand on both
    sides, and is easier by three points of kNN accuracy on raw pixels.
    """
    bunch = require("sklearn.datasets", "scikit-learn").load_digits()
    images = (torch.from_numpy(bunch.images).unsqueeze(1) * (255 / 16)).round().to(torch.uint8)
    labels = torch.from_numpy(bunch.target).long()
    split = len(images) * 4 // 5
    return Images(images[:split], labels[:split], images[split:], labels[split:])


def fashion_mnist() -> Images:
    """Fashion-MNIST: 70000 grey images of 28 x 28, clothes of ten kinds (arXiv 1708.07747).

    Raises:
        TrainError: Debian's package with the files is not installed.
    """
    if not FASHION_MNIST.is_dir():
        raise TrainError(
            f"there is no {FASHION_MNIST}: apt install dataset-fashion-mnist, or give --data the "
            "folder that holds the four IDX files"
        )
    return folder(FASHION_MNIST)


def folder(path: Path) -> Images:
    """The four files of MNIST and Fashion-MNIST, by their names, plain or with .gz.

    Raises:
        TrainError: a file is missing or corrupt, or two of them do not belong together.
    """
    train, train_labels = _labelled(path, "train")
    test, test_labels = _labelled(path, "t10k")
    if train.shape[1:] != test.shape[1:]:
        sides = " and ".join(f"{x.shape[2]} x {x.shape[3]}" for x in (train, test))
        raise TrainError(f"{path}: train and t10k images differ in size, {sides}")
    return Images(train, train_labels, test, test_labels)


def _labelled(path: Path, part: str) -> tuple[Tensor, Tensor]:
    files = [idx.find(path, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images, labels = idx.read(files[0], dims=3), idx.read(files[1], dims=1)
    if len(images) != len(labels):
        raise TrainError(f"{files[0]} has {len(images)} images, {files[1]} {len(labels)} labels")
    return images.unsqueeze(1), labels.long()


SOURCES: dict[str, Callable[[], Images]] = {"digits": digits, "fashion-mnist": fashion_mnist}


def load(name: str) -> Images:
    """Load images by the name of a source, or from a folder of IDX files.

    Raises:
        TrainError: neither a source nor a folder; else see `folder` and `fashion_mnist`.
    """
    if name in SOURCES:
        return SOURCES[name]()
    if Path(name).is_dir():
        return folder(Path(name))
    raise TrainError(
        f"unknown data {name!r}: known are {', '.join(sorted(SOURCES))}, and folders of IDX files"
    )
