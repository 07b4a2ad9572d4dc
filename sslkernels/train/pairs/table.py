"""Pairs of things, some held out: from a CSV file, or from what is on the machine."""

from __future__ import annotations

import csv
import hashlib
import re
import sysconfig
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError, require

HOLD_OUT = 10  # every tenth pair
NAMED = 3  # bad lines that a message names

Named = tuple[str, str]


@dataclass(frozen=True)
class Pairs:
    """train [N, 2], test [M, 2]: int64, numbers of the left and the right thing of each pair.

    Of what is held out, only pairs of things that training has seen too. lefts, rights: how many
    there are; note: what was read, for the person who waits.
    """

    train: Tensor
    test: Tensor
    lefts: int
    rights: int
    note: str

    @property
    def fingerprint(self) -> str:
        return hashlib.blake2b(self.train.numpy().tobytes(), digest_size=8).hexdigest()


def read(path: Path, *, strict: bool) -> tuple[list[Named], str]:
    """The first two columns of a CSV file with a header; and what was skipped, in words.

    Raises:
        TrainError: the file cannot be read; with strict, a line with fewer than two filled fields.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            lines = list(enumerate(csv.reader(file), 1))[1:]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise TrainError(f"cannot read {path}: {error}") from error
    good = [(x[0], x[1]) for _, x in lines if len(x) >= 2 and x[0] and x[1]]
    bad = [str(number) for number, x in lines if not (len(x) >= 2 and x[0] and x[1])]
    if not bad:
        return good, ""
    named = ", ".join(bad[:NAMED]) + (f" and {len(bad) - NAMED} more" if len(bad) > NAMED else "")
    if strict:
        raise TrainError(f"{path}: {len(bad)} lines without two fields: {named}")
    return good, f"; {len(bad)} lines skipped, without two fields: {named}"


def load(
    name: str, sources: dict[str, Callable[[], Iterable[Named]]], *, same: bool, strict: bool
) -> Pairs:
    """Pairs of a source by its name, or of a CSV file.

    Args:
        same: left and right things are of one kind (a graph): numbered together.

    Raises:
        TrainError: neither a source nor a file; too few pairs; see `read`.
    """
    skipped = ""
    if name in sources:
        named = list(sources[name]())
    elif Path(name).is_file():
        named, skipped = read(Path(name), strict=strict)
    else:
        known = ", ".join(sorted(sources))
        raise TrainError(f"unknown data {name!r}: known are {known}, and CSV files with a header")
    named = sorted({*named})
    if len(named) < 2 * HOLD_OUT:
        raise TrainError(f"{name} has {len(named)} different pairs, fewer than {2 * HOLD_OUT}")
    lefts = {x: i for i, x in enumerate(dict.fromkeys(left for left, _ in named))}
    rights = lefts if same else {}
    for _, right in named:
        rights.setdefault(right, len(rights))
    pairs = torch.tensor([(lefts[left], rights[right]) for left, right in named])
    # In an order that has nothing to do with the names, the same every time.
    pairs = pairs[torch.randperm(len(pairs), generator=torch.Generator().manual_seed(0))]
    held = torch.arange(len(pairs)) % HOLD_OUT == 0
    train, test = pairs[~held], pairs[held]
    known_pairs = torch.isin(test[:, 0], train[:, 0]) & torch.isin(test[:, 1], train[:, 1])
    test = test[known_pairs]
    if not len(test):
        raise TrainError(f"{name}: nothing that is held out is of things that training has seen")
    what = f"{len(lefts):,} nodes" if same else f"{len(lefts):,} x {len(rights):,} things"
    note = f"{len(train):,} pairs of {what} to train on, {len(test):,} held out{skipped}"
    return Pairs(train, test, len(lefts), len(rights), note)


def inked_pixels() -> Iterable[Named]:
    """Synthetic interactions made of scikit-learn's digits: an image "takes" the pixels that it
    fills by half or more. No real interactions come with any package that is needed here."""
    images = require("sklearn.datasets", "scikit-learn").load_digits().data
    return ((f"image {i}", f"pixel {j}") for i, j in zip(*(images >= 8).nonzero(), strict=True))


def imports() -> Iterable[Named]:
    """A real graph: which modules of Python's standard library import which, by the lines that say
    so (parsing all of it would take ten times as long)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    files = [p for p in root.rglob("*.py") if not FOREIGN & {*p.relative_to(root).parts}]
    modules = {".".join(p.relative_to(root).with_suffix("").parts) for p in files}
    modules = {name.removesuffix(".__init__") for name in modules}
    for path in sorted(files):
        own = ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue  # a test of other encodings
        for one, several in IMPORT.findall(text):
            names = (
                [one] if one else [word.split()[0] for word in several.split(",") if word.strip()]
            )
            yield from ((own, name) for name in names if name in modules and name != own)


IMPORT = re.compile(r"^[ \t]*(?:from +([\w.]+) +import\b|import +([\w., ]+))", re.MULTILINE)
FOREIGN = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
INTERACTIONS: dict[str, Callable[[], Iterable[Named]]] = {"digits": inked_pixels}
GRAPHS: dict[str, Callable[[], Iterable[Named]]] = {"stdlib": imports}
