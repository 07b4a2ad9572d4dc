"""Text that is on the machine already: Python's own library, or any folder of files."""

from __future__ import annotations

import hashlib
import math
import random
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sslkernels.train.errors import TrainError
from sslkernels.train.files import listed

STDLIB = "stdlib"
SUFFIXES = (".txt", ".md", ".py")
# Folders in the library that are not the library.
FOREIGN = {"site-packages", "dist-packages", "test", "tests", "idle_test"}
HOLD_OUT = 10  # every tenth document
DOCUMENTS = 2 * HOLD_OUT  # fewer files than these are cut


@dataclass(frozen=True)
class Corpus:
    """Documents, some of them held out, none of them empty.

    skipped: which files could not be read or are not UTF-8, empty for none; fingerprint: the same
    for the same text.
    """

    train: list[str]
    test: list[str]
    skipped: str
    fingerprint: str


def load(name: str, megabytes: float, *, strict: bool = False) -> Corpus:
    """Read the Python standard library (`"stdlib"`) or all .txt, .md and .py files below a folder.

    Of more text than `megabytes`, a sample of the files is read, the same every time. Every tenth
    file is held out, so that no text of a held-out file is trained on; of fewer than 20 files, it
    is every tenth part of them.

    Raises:
        TrainError: there is no such folder, no text or too little in it; with strict, a file cannot
            be read or is not UTF-8; `megabytes` is not positive and finite.
    """
    if not (math.isfinite(megabytes) and megabytes > 0):
        raise TrainError(f"megabytes is {megabytes}, must be positive and finite")
    paths = files(name)
    texts, reasons = read(paths, int(megabytes * 1e6))
    count = f"{len(reasons)} of {len(paths)} files"
    if reasons and (strict or not texts):
        raise TrainError(f"{count} cannot be read: {listed(reasons)}")
    if not texts:
        raise TrainError(f"no text in {name}: {', '.join(SUFFIXES)} files are read")
    documents = cut(texts)
    if len(documents) < HOLD_OUT:
        raise TrainError(f"too little text in {name}: {len(documents)} lines or files")
    digest = hashlib.blake2b(digest_size=8)
    for document in documents:
        digest.update(document.encode() + b"\0")
    return Corpus(
        train=[text for i, text in enumerate(documents, 1) if i % HOLD_OUT],
        test=documents[HOLD_OUT - 1 :: HOLD_OUT],
        skipped=f"{count} skipped: {listed(reasons)}" if reasons else "",
        fingerprint=digest.hexdigest(),
    )


def files(name: str) -> list[Path]:
    """The files of a corpus, in the order of their names."""
    library = name == STDLIB
    folder = Path(sysconfig.get_paths()["stdlib"] if library else name)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise TrainError(
            f"data is {name!r}, which {what}: {STDLIB!r} or a folder of text is wanted"
        )
    found = [path.relative_to(folder) for path in folder.rglob("*") if path.suffix in SUFFIXES]
    if library:
        found = [path for path in found if path.suffix == ".py" and not FOREIGN & {*path.parts}]
    return [folder / path for path in sorted(found)]


def read(paths: Sequence[Path], limit: int) -> tuple[list[str], list[str]]:
    """Texts of at most `limit` bytes in all, and of the files that cannot be read each with why."""
    texts: dict[Path, str] = {}
    reasons = []
    # In an order that has nothing to do with the names: what fits is a sample of all.
    for path in random.Random(0).sample(paths, len(paths)):
        try:
            content = path.read_bytes()
            text = content.decode()
        except (OSError, UnicodeDecodeError) as error:
            reasons.append(f"{path} ({type(error).__name__}: {error})")
            continue
        if len(content) > limit:
            text = content[:limit].decode(errors="ignore")
        if text.strip():
            texts[path] = text
            limit -= len(content)
        if limit <= 0:
            break
    return [texts[path] for path in paths if path in texts], sorted(reasons)


def cut(texts: list[str]) -> list[str]:
    """At least `DOCUMENTS` documents, where the texts have lines enough; files stay whole if they
    are that many."""
    if len(texts) >= DOCUMENTS:
        return texts
    limit = sum(map(len, texts)) / DOCUMENTS
    documents = []
    for text in texts:
        piece = ""
        for line in text.splitlines(keepends=True):
            # A piece is closed before the line that would make it too long.
            if piece.strip() and len(piece) + len(line) > limit:
                documents.append(piece)
                piece = ""
            piece += line
        if piece.strip():
            documents.append(piece)
    return documents
