"""The tasks of the command line: a method, the data it learns from, and what is measured."""

from __future__ import annotations

from torch import Tensor

from sslkernels.train import images
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import evaluate as evaluate_features
from sslkernels.train.methods.bert import Bert
from sslkernels.train.methods.gpt import Gpt
from sslkernels.train.methods.simclr import SimCLR
from sslkernels.train.run import Task
from sslkernels.train.text.examples import Pairs, Windows
from sslkernels.train.text.score import evaluate as evaluate_tokens
from sslkernels.train.text.tokens import Tokens
from sslkernels.train.transformer import Size
from sslkernels.train.views import Augment, Views, small_grey

HELD_OUT_SEED = 0  # the same masks and pairs for every run, whatever its seed


def simclr(
    name: str, count: int | None, *, temperature: float, loss: str, seed: int, augment: Augment
) -> Task[Tensor]:
    """SimCLR on images, or the first `count` of them, measured by its features."""
    data = images.load(name)
    data = data if count is None else data.first(count)
    channels, height, width = data.train.shape[1:]
    views = Views(data.train, small_grey((height, width)), seed=seed, augment=augment)
    method = SimCLR(channels, temperature=temperature, loss=loss)

    def evaluate() -> dict[str, str]:
        accuracy = evaluate_features(method.encoder, data)
        return {
            "kNN (k = 20, cosine)": f"{accuracy.knn:.1%}",
            "linear probe": f"{accuracy.linear:.1%}",
        }

    title = f"Accuracy on {len(data.test)} held-out images"
    return Task(method, views, evaluate, title, {"images": data.fingerprint})


def bert(tokens: Tokens, size: Size, *, seed: int, loss: str) -> Task[dict[str, Tensor]]:
    """BERT on text, measured by masked tokens and next sentences.

    Raises:
        TrainError: too few documents are long enough for a pair.
    """

    def pairs(documents: list[Tensor], seed: int) -> Pairs:
        return Pairs(documents, length=size.length, vocab_size=tokens.vocab_size, seed=seed)

    train, test = pairs(tokens.train, seed), pairs(tokens.test, HELD_OUT_SEED)
    method = Bert(tokens.vocab_size, size, loss=loss)

    def evaluate() -> dict[str, str]:
        score = evaluate_tokens(method, test)
        return {
            "perplexity of masked tokens": f"{score.perplexity:,.1f}",
            "masked tokens guessed": f"{score.accuracy:.1%}",
            "next sentence told from a random one": f"{score.pair_accuracy:.1%}",
        }

    title = f"{len(test)} held-out pairs of segments"
    return Task(method, train, evaluate, title, tokens.identity, tokens.files, (tokens.note,))


def gpt(tokens: Tokens, size: Size, *, loss: str) -> Task[dict[str, Tensor]]:
    """GPT on text, measured by next tokens.

    Raises:
        TrainError: the held-out text is shorter than a window.
    """
    train, test = (
        Windows(documents, length=size.length) for documents in (tokens.train, tokens.test)
    )
    if not len(test):
        held_out = sum(map(len, tokens.test))
        raise TrainError(f"length is {size.length}, but only {held_out} tokens are held out")
    method = Gpt(tokens.vocab_size, size, loss=loss)

    def evaluate() -> dict[str, str]:
        score = evaluate_tokens(method, test)
        return {
            "perplexity": f"{score.perplexity:,.1f}",
            "next tokens guessed": f"{score.accuracy:.1%}",
        }

    title = f"{len(test)} held-out windows of {size.length} tokens"
    return Task(method, train, evaluate, title, tokens.identity, tokens.files, (tokens.note,))
