"""GPT: Improving Language Understanding by Generative Pre-Training.

Radford, Narasimhan, Salimans, Sutskever, 2018; blocks as in GPT-2 (2019). Each token is guessed
from those before it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor

import sslkernels
from sslkernels.train.arguments import Loss, LossOption
from sslkernels.train.errors import TrainError
from sslkernels.train.text.examples import Windows
from sslkernels.train.text.score import Score, TextMethod, token_score
from sslkernels.train.text.tokens import Tokens
from sslkernels.train.transformer import Size, Transformer


def eager(hidden: Tensor, weight: Tensor, labels: Tensor) -> Tensor:
    """The definition: the logits of all positions but the last, of which nothing is known."""
    logits = F.linear(hidden[:, :-1], weight)
    return F.cross_entropy(logits.flatten(0, 1), labels[:, 1:].flatten())


LOSSES: dict[str, Callable[..., Tensor]] = {"fused": sslkernels.causal_lm_loss, "eager": eager}


class Gpt(TextMethod):
    """forward: a batch of `Windows` -> the loss of each next token.

    Args:
        loss: "fused" (sslkernels.causal_lm_loss) or "eager" (its dense definition); the same curve.
    """

    encoder: Transformer

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 3, "batch_size": 32, "lr": 1e-3}

    def __init__(self, vocab_size: int, size: Size, *, loss: LossOption = Loss.fused) -> None:
        super().__init__()
        self.encoder = Transformer(vocab_size, size, causal=True)
        self.criterion = LOSSES[loss]

    @staticmethod
    def examples(tokens: Tokens, size: Size, seed: int, test_seed: int) -> tuple[Windows, Windows]:
        """Windows of text, to train on and held out.

        Raises:
            TrainError: the held-out text is shorter than a window.
        """
        train, test = (
            Windows(documents, length=size.length) for documents in (tokens.train, tokens.test)
        )
        if not len(test):
            held_out = sum(map(len, tokens.test))
            raise TrainError(f"length is {size.length}, but only {held_out} tokens are held out")
        return train, test

    @staticmethod
    def shown(score: Score) -> dict[str, str]:
        return {
            "perplexity": f"{score.perplexity:,.1f}",
            "next tokens guessed": f"{score.accuracy:.1%}",
        }

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        ids = batch["ids"]
        return self.criterion(self.encoder(ids), self.encoder.tokens.weight, ids)

    def score(self, batch: dict[str, Tensor]) -> Score:
        ids = batch["ids"]
        return token_score(self.encoder(ids)[:, :-1], self.encoder.tokens.weight, ids[:, 1:])
