"""The tasks of the command line: a method, the data it learns from, and what is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sslkernels import show_grid
from sslkernels.train import images
from sslkernels.train.audio import sounds
from sslkernels.train.audio.examples import Waves
from sslkernels.train.data import moved
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import SAMPLED, features, knn_accuracy, knn_of
from sslkernels.train.evaluate import evaluate as evaluate_features
from sslkernels.train.pairs import table
from sslkernels.train.pairs.examples import Rows, auc, popularity, recall
from sslkernels.train.run import Task
from sslkernels.train.text.score import TextMethod
from sslkernels.train.text.score import evaluate as evaluate_tokens
from sslkernels.train.text.tokens import load as load_tokens
from sslkernels.train.transformer import Size
from sslkernels.train.views import Views

if TYPE_CHECKING:
    from sslkernels.train.methods.image import ImageMethod
    from sslkernels.train.options import AudioOptions, ImageOptions, PairOptions, TextOptions

UNMEASURED = "fewer than two classes: neither kNN accuracy nor a linear probe"
HELD_OUT_SEED = 0  # the same masks and pairs for every run, whatever its seed


def image(kind: type[ImageMethod[Any]], options: ImageOptions, own: dict[str, Any]) -> Task[Any]:
    """A method of images, measured by its features, and by what it measures itself."""
    data = images.load(
        options.data, size=options.size, strict=options.strict, workers=options.workers
    )
    data = data if options.images is None else data.first(options.images)
    method = kind.made_for(data.facts, **own)
    policies = kind.views(tuple(data.facts["shape"]))
    drawn = {"augment": options.augment.value, "flip": options.flip}
    if options.flip:
        policies = tuple(replace(policy, horizontal_flip=0.5) for policy in policies)
    try:
        views = Views(data.train, policies, seed=options.seed, augment=options.augment)
    except ValueError as error:
        raise TrainError(str(error)) from error
    classes = bool(data.names) and len(data.train_labels.unique()) > 1

    @torch.no_grad()
    def evaluate() -> dict[str, str]:
        training = method.training
        method.eval()
        shown = {name: f"{value:.1%}" for name, value in method.measures(data).items()}
        method.train(training)
        if not classes:
            return shown
        accuracy = evaluate_features(method.encoder, data)
        return {
            "kNN (k = 20, cosine)": f"{accuracy.knn:.1%}",
            "linear probe": f"{accuracy.linear:.1%}",
            **shown,
        }

    def watch() -> Mapping[str, float]:
        return (
            {} if not classes else {"kNN": knn_of(partial(features, method.encoder), data, SAMPLED)}
        )

    def show(path: Path) -> None:
        if data.train.shape[1] in (1, 3):
            count = min(8, len(data.train))
            made = views.batch(torch.arange(count), 0)
            show_grid(data.train[:count], made, policies, path, zoom=max(1, 96 // made.shape[-1]))

    return Task(
        method,
        method.examples(views, data.train_labels),
        evaluate,
        f"Accuracy on {len(data.test)} held-out images",
        identity={"images": data.fingerprint, **drawn, **data.facts},
        notes=tuple(filter(None, (data.note, "" if classes else UNMEASURED))),
        watch=watch,
        show=show,
    )


def text(kind: type[Any], options: TextOptions, own: dict[str, Any]) -> Task[Any]:
    """A method of text, measured by the tokens it guesses, and what else it tells."""
    size = Size(options.length, options.width, options.layers)
    resumed = options.out if options.resume else None
    tokens = load_tokens(
        options.data,
        options.megabytes,
        options.vocab_size,
        resume_from=resumed,
        strict=options.strict,
    )
    method: TextMethod = kind(tokens.vocab_size, size, **own)
    train, test = kind.examples(tokens, size, options.seed, HELD_OUT_SEED)

    def evaluate() -> dict[str, str]:
        return kind.shown(evaluate_tokens(method, test))

    return Task(
        method,
        train,
        evaluate,
        f"{len(test)} held-out {test.unit} of {size.length} tokens",
        identity={**vars(size), "vocab_size": options.vocab_size, **tokens.identity},
        files=tokens.files,
        notes=(tokens.note,),
    )


def audio(kind: type[Any], options: AudioOptions, own: dict[str, Any]) -> Task[Any]:
    """A method of sounds, measured by the hidden frames it tells apart, and by its features."""
    data = sounds.load(options.data, strict=options.strict, workers=options.workers)
    method = kind(**own)
    train, test = (
        Waves(part, numbers=kind.numbers, seed=seed)
        for part, seed in ((data.train, options.seed), (data.test, HELD_OUT_SEED))
    )

    @torch.no_grad()
    def evaluate() -> dict[str, str]:
        weight = next(method.parameters())
        batch = moved(test.batch(torch.arange(len(test)), 0), weight.device, weight.dtype)
        shown = {"hidden frames told apart": f"{method.compared(batch)[1].item():.1%}"}
        if len(data.names) > 1:
            known, asked = (features(method.encoder, x, 256) for x in (data.train, data.test))
            knn = knn_accuracy(known, data.train_labels, asked, data.test_labels)
            shown["kNN (k = 20, cosine)"] = f"{knn:.1%}"
        return shown

    return Task(
        method,
        train,
        evaluate,
        f"{len(test)} held-out sounds",
        identity={"sounds": data.fingerprint},
        notes=(data.note,) if data.note else (),
    )


def recommender(kind: type[Any], options: PairOptions, own: dict[str, Any]) -> Task[Any]:
    """A method of users and items, measured by the held-out items among its best ten."""
    pairs = table.load(options.data, table.INTERACTIONS, same=False, strict=options.strict)
    method = kind(pairs, **own)

    @torch.no_grad()
    def evaluate() -> dict[str, str]:
        return {
            "recall at 10": f"{recall(method.scores(pairs), pairs, 10):.1%}",
            "the same by popularity": f"{recall(popularity(pairs), pairs, 10):.1%}",
        }

    return _of_pairs(method, pairs, evaluate, "interactions")


def graph(kind: type[Any], options: PairOptions, own: dict[str, Any]) -> Task[Any]:
    """A method of a graph's links, measured by held-out ones against random pairs."""
    pairs = table.load(options.data, table.GRAPHS, same=True, strict=options.strict)
    method = kind(pairs, **own)

    @torch.no_grad()
    def evaluate() -> dict[str, str]:
        return {"AUC of links against random pairs": f"{auc(method.scores(pairs), pairs):.3f}"}

    return _of_pairs(method, pairs, evaluate, "links")


def _of_pairs(
    method: Any, pairs: table.Pairs, evaluate: Callable[[], dict[str, str]], what: str
) -> Task[Any]:
    return Task(
        method,
        Rows(pairs.train),
        evaluate,
        f"{len(pairs.test)} held-out {what}",
        identity={"pairs": pairs.fingerprint},
        notes=(pairs.note,),
    )
