"""Labelled images: those that need no download, folders of IDX files, and folders of pictures."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslkernels.train import idx, pictures
from sslkernels.train.errors import TrainError, require

FASHION_MNIST = Path("/usr/share/datasets/fashion-mnist")
"""Where Debian's package dataset-fashion-mnist has its files."""
DIGITS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
CLOTHES = (
    "t-shirt", "trousers", "pullover", "dress", "coat",
    "sandal", "shirt", "sneaker", "bag", "ankle boot",
)  # fmt: skip
PATCH = 32


@dataclass(frozen=True)
class Images:
    """Images with labels that only the evaluation reads.

    train, test: uint8 [N, C, H, W]; train_labels, test_labels: int64 [N]; names: of the labels,
    none where there are no labels; note: what was read, for the person who waits.
    """

    train: Tensor
    train_labels: Tensor
    test: Tensor
    test_labels: Tensor
    names: tuple[str, ...] = ()
    note: str = ""

    def first(self, count: int) -> Images:
        """With this many of the training images, and all others for the test.

        Raises:
            TrainError: count is below 1, or above what there is.
        """
        if not 1 <= count <= len(self.train):
            raise TrainError(
                f"images is {count}, must be in 1..{len(self.train)}, the training images there are"
            )
        return replace(self, train=self.train[:count], train_labels=self.train_labels[:count])

    @property
    def facts(self) -> dict[str, Any]:
        """What a method must know of them."""
        return {"shape": list(self.train.shape[1:]), "names": list(self.names)}

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
    return Images(images[:split], labels[:split], images[split:], labels[split:], DIGITS)


def photos() -> Images:
    """scikit-learn's two photographs, a temple and a flower, in overlapping patches of 32 x 32.

    The right fifth of each photograph is held out; no patch has pixels of both parts. The label is
    the photograph: an easy question, in data that is here for its colours.
    """
    pair = require("sklearn.datasets", "scikit-learn").load_sample_images().images
    parts: list[list[Tensor]] = [[], []]
    for array in pair:
        photo = torch.tensor(array).permute(2, 0, 1)
        edge = photo.shape[2] * 4 // 5
        for part, side in zip(parts, (photo[:, :, :edge], photo[:, :, edge:]), strict=True):
            patches = side.unfold(1, PATCH, PATCH // 2).unfold(2, PATCH, PATCH // 2)
            part.append(patches.permute(1, 2, 0, 3, 4).flatten(0, 1))
    labels = [torch.arange(2).repeat_interleave(torch.tensor([*map(len, x)])) for x in parts]
    order = mixed(len(labels[0]))
    return Images(
        torch.cat(parts[0])[order],
        labels[0][order],
        torch.cat(parts[1]),
        labels[1],
        ("temple", "flower"),
    )


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
    return replace(folder(FASHION_MNIST), names=CLOTHES)


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
    count = int(max(train_labels.max(), test_labels.max())) + 1
    return Images(train, train_labels, test, test_labels, tuple(map(str, range(count))))


def _labelled(path: Path, part: str) -> tuple[Tensor, Tensor]:
    files = [idx.find(path, f"{part}-{kind}-ubyte") for kind in ("images-idx3", "labels-idx1")]
    images, labels = idx.read(files[0], dims=3), idx.read(files[1], dims=1)
    if len(images) != len(labels):
        raise TrainError(f"{files[0]} has {len(images)} images, {files[1]} {len(labels)} labels")
    return images.unsqueeze(1), labels.long()


def tree(path: Path, size: int, *, strict: bool, workers: int = 0) -> Images:
    """A folder of pictures, in a subfolder for each class, or without classes.

    Subfolders `train` and `test` (or `val`), if there are both, are the two parts; else every fifth
    picture is held out.

    Raises:
        TrainError: see `pictures.read`; the two parts differ in their classes.
    """
    test = next((path / name for name in ("test", "val") if (path / name).is_dir()), None)
    if test is None or not (path / "train").is_dir():
        all_of = pictures.read(path, size, strict=strict, workers=workers)
        held = torch.arange(len(all_of.images)) % 5 == 4
        if not held.any():
            raise TrainError(f"{path} has {len(held)} pictures, of which every fifth is held out")
        order = (~held).nonzero()[:, 0][mixed(int((~held).sum()))]
        parts = [(all_of.images[side], all_of.labels[side]) for side in (order, held)]
        return Images(*parts[0], *parts[1], all_of.names, all_of.note)
    one, two = (
        pictures.read(side, size, strict=strict, workers=workers) for side in (path / "train", test)
    )
    if one.names != two.names:
        only = sorted({*one.names} ^ {*two.names})
        raise TrainError(f"{path}: train and {test.name} differ in their classes: {only}")
    note = "; ".join(filter(None, (one.note, two.note)))
    order = mixed(len(one.images))
    return Images(one.images[order], one.labels[order], two.images, two.labels, one.names, note)


def mixed(count: int) -> Tensor:
    """An order in which the first few are of all classes; the same every time."""
    return torch.randperm(count, generator=torch.Generator().manual_seed(0))


SOURCES: dict[str, Callable[[], Images]] = {
    "digits": digits,
    "fashion-mnist": fashion_mnist,
    "photos": photos,
}


def load(name: str, *, size: int = 32, strict: bool = False, workers: int = 0) -> Images:
    """Load images by the name of a source, from a folder of IDX files, or of pictures.

    Args:
        size: pictures are cut to a square and resized to this side.
        strict: fail on a picture that cannot be read, rather than skip it.
        workers: processes that decode pictures; without any, threads do.

    Raises:
        TrainError: neither a source nor a folder; else see `folder`, `tree` and `fashion_mnist`.
    """
    if name in SOURCES:
        return SOURCES[name]()
    path = Path(name)
    if path.is_dir():
        if any(path.glob("*-ubyte*")):
            return folder(path)
        return tree(path, size, strict=strict, workers=workers)
    raise TrainError(
        f"unknown data {name!r}: known are {', '.join(sorted(SOURCES))}, folders of IDX files and "
        "of pictures"
    )
