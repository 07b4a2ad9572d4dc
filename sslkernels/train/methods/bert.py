"""BERT: Pre-training of Deep Bidirectional Transformers for Language Understanding.

Devlin, Chang, Lee, Toutanova, 2018 (arXiv 1810.04805). Some tokens of a text are hidden and must be
guessed from those around them, and of two segments it must be said whether one follows the other.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import sslkernels
from sslkernels.train.arguments import Loss, LossOption
from sslkernels.train.text.examples import Pairs
from sslkernels.train.text.score import Score, TextMethod, token_score
from sslkernels.train.text.tokens import Tokens
from sslkernels.train.transformer import Size, Transformer, initialise


def eager(hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor) -> Tensor:
    """The definition: the logits of all positions, most of which the loss ignores."""
    logits = F.linear(hidden, weight, bias)
    total = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="sum")
    return total / (labels != -100).sum().clamp(min=1)


LOSSES: dict[str, Callable[..., Tensor]] = {"fused": sslkernels.masked_lm_loss, "eager": eager}


class Bert(TextMethod):
    """forward: a batch of `Pairs` -> the loss of the masked tokens plus that of the next sentence.

    Args:
        loss: "fused" (sslkernels.masked_lm_loss) or "eager" (its dense definition); the same curve.
    """

    encoder: Transformer

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 4, "batch_size": 32, "lr": 1e-3}

    def __init__(self, vocab_size: int, size: Size, *, loss: LossOption = Loss.fused) -> None:
        super().__init__()
        width = size.width
        self.encoder = Transformer(vocab_size, size, causal=False, segments=2)
        self.transform = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.LayerNorm(width))
        # The output weights are the token embeddings; the bias is its own.
        self.bias = nn.Parameter(torch.zeros(vocab_size))
        self.next = nn.Sequential(nn.Linear(width, width), nn.Tanh(), nn.Linear(width, 2))
        self.transform.apply(initialise)
        self.next.apply(initialise)
        self.criterion = LOSSES[loss]

    @staticmethod
    def examples(tokens: Tokens, size: Size, seed: int, test_seed: int) -> tuple[Pairs, Pairs]:
        """Pairs of segments, to train on and held out.

        Raises:
            TrainError: too few documents are long enough for a pair.
        """
        options = {"length": size.length, "vocab_size": tokens.vocab_size}
        return (
            Pairs(tokens.train, seed=seed, **options),
            Pairs(tokens.test, seed=test_seed, **options),
        )

    @staticmethod
    def shown(score: Score) -> dict[str, str]:
        return {
            "perplexity of masked tokens": f"{score.perplexity:,.1f}",
            "masked tokens guessed": f"{score.accuracy:.1%}",
            "next sentence told from a random one": f"{score.pair_accuracy:.1%}",
        }

    def features(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """What tokens are guessed from [B, S, D], and the logits of the next sentence [B, 2]."""
        hidden = self.encoder(batch["ids"], batch["segments"], batch["real"])
        return self.transform(hidden), self.next(hidden[:, 0])

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        hidden, following = self.features(batch)
        masked = self.criterion(hidden, self.encoder.tokens.weight, batch["labels"], bias=self.bias)
        return masked + sslkernels.next_sentence_loss(following, batch["random"])

    def score(self, batch: dict[str, Tensor]) -> Score:
        hidden, following = self.features(batch)
        score = token_score(hidden, self.encoder.tokens.weight, batch["labels"], self.bias)
        right = (following.argmax(dim=1) == batch["random"]).sum().item()
        return score + Score(pairs=len(following), pairs_right=int(right))
