"""How well are tokens guessed? Counted over held-out text."""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass

import torch
from torch import Tensor

import sslkernels
from sslkernels.train.data import Examples, moved
from sslkernels.train.methods import Method
from sslkernels.train.text.tokens import Tokens
from sslkernels.train.transformer import Size


@dataclass(frozen=True)
class Score:
    """Sums over what was looked at; scores of parts add up to that of the whole."""

    loss: float = 0.0  # nats, of all tokens that were to be guessed
    tokens: int = 0
    tokens_right: int = 0
    pairs: int = 0
    pairs_right: int = 0

    def __add__(self, other: Score) -> Score:
        return Score(
            self.loss + other.loss,
            self.tokens + other.tokens,
            self.tokens_right + other.tokens_right,
            self.pairs + other.pairs,
            self.pairs_right + other.pairs_right,
        )

    @property
    def perplexity(self) -> float:
        mean = self.loss / max(1, self.tokens)
        return math.exp(mean) if mean < 700 else math.inf

    @property
    def accuracy(self) -> float:
        return self.tokens_right / max(1, self.tokens)

    @property
    def pair_accuracy(self) -> float:
        return self.pairs_right / max(1, self.pairs)


class TextMethod(Method[dict[str, Tensor]]):
    """A method whose examples are text, and which can say how well it guesses tokens."""

    @staticmethod
    @abstractmethod
    def examples(
        tokens: Tokens, size: Size, seed: int, test_seed: int
    ) -> tuple[Examples[dict[str, Tensor]], Examples[dict[str, Tensor]]]:
        """What is trained on, and what is held out."""

    @staticmethod
    @abstractmethod
    def shown(score: Score) -> dict[str, str]:
        """What a score says, by name."""

    @abstractmethod
    def score(self, batch: dict[str, Tensor]) -> Score:
        """Score of the examples of a batch."""


def token_score(
    hidden: Tensor, weight: Tensor, labels: Tensor, bias: Tensor | None = None
) -> Score:
    """Score of the tokens whose label is not -100: hidden [B, S, D], weight [V, D], labels [B, S].

    The same for methods trained by either loss, and without the logits of all tokens in memory.
    """
    loss, terms = sslkernels.linear_cross_entropy(
        hidden, weight, labels, linear_bias=bias, reduction="sum", return_terms=True
    )
    tokens = int((labels != -100).sum())
    return Score(loss=loss.item(), tokens=tokens, tokens_right=int(terms.correct))


@torch.no_grad()
def evaluate(method: TextMethod, data: Examples[dict[str, Tensor]], batch_size: int = 32) -> Score:
    """Score of all examples as they are in epoch 0, in evaluation mode (which is undone)."""
    weight = next(method.parameters())
    training = method.training
    method.eval()
    total = Score()
    for index in torch.arange(len(data)).split(batch_size):
        total += method.score(moved(data.batch(index, 0), weight.device, weight.dtype))
    method.train(training)
    return total
