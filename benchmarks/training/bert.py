"""BERT's masked tokens on text: tokens masked, a small transformer, the vocabulary, AdamW."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import sslkernels
from benchmarks.linear_cross_entropy import IGNORED, dense, dense_gathered
from benchmarks.training.measure import Script
from benchmarks.training.phases import DATA, Clock, step
from sslkernels.train.text.tokenizer import MASK, SPECIAL_IDS
from sslkernels.train.transformer import Size, Transformer

LEARNING_RATE = 1e-3
MASKED = 0.15

Masking = Callable[[Tensor, int], tuple[Tensor, Tensor]]


class Masker:
    """Masks a batch by `sslkernels.mask_tokens`."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def __call__(self, ids: Tensor, number: int) -> tuple[Tensor, Tensor]:
        return sslkernels.mask_tokens(
            ids,
            mask_token_id=MASK,
            vocab_size=self.vocab_size,
            special_ids=SPECIAL_IDS,
            probability=MASKED,
            seed=number,
        )


class Collator:
    """Masks a batch as transformers' DataCollatorForLanguageModeling does."""

    def __init__(self, vocab_size: int) -> None:
        self.vocab_size = vocab_size

    def __call__(self, ids: Tensor, number: int) -> tuple[Tensor, Tensor]:
        special = torch.isin(ids, torch.tensor(SPECIAL_IDS))
        masked = torch.bernoulli(torch.full(ids.shape, MASKED).masked_fill_(special, 0.0)).bool()
        labels = ids.masked_fill(~masked, IGNORED)
        hidden = torch.bernoulli(torch.full(ids.shape, 0.8)).bool() & masked
        random = torch.bernoulli(torch.full(ids.shape, 0.5)).bool() & masked & ~hidden
        words = torch.randint(self.vocab_size, ids.shape)
        return torch.where(random, words, ids.masked_fill(hidden, MASK)), labels


def flattened(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """A dense loss of the suite, whose rows are [N, D], as a head of [B, S, D]."""

    def head(hidden: Tensor, weight: Tensor, labels: Tensor, *, bias: Tensor) -> Tensor:
        return loss(hidden.flatten(0, 1), weight, bias, labels.flatten())

    return head


class Bert(Script):
    """The step that all scripts have in common.

    Args:
        name: as reports show it.
        masking: (ids [B, S], number of the batch) -> masked ids and labels.
        head: the loss, of hidden states, the tokens' embeddings, labels and a bias.
        rows: tokens [N, S] to draw batches from.
        precision: "float32", or "bf16": network and head under autocast.
    """

    def __init__(
        self,
        name: str,
        masking: Masking,
        head: Callable[..., Tensor],
        rows: Tensor,
        *,
        batch: int,
        vocab_size: int,
        size: Size,
        precision: str,
    ) -> None:
        torch.manual_seed(0)
        self.name, self.items = name, batch * rows.shape[1]
        self.masking, self.head, self.rows, self.batch = masking, head, rows, batch
        self.half = precision == "bf16"
        self.encoder = Transformer(vocab_size, size, causal=False)
        self.bias = torch.nn.Parameter(torch.zeros(vocab_size))
        weights = [*self.encoder.parameters(), self.bias]
        self.optimizer = torch.optim.AdamW(weights, lr=LEARNING_RATE)
        self.steps = 0

    def run(self, steps: int, clock: Clock) -> None:
        for _ in range(steps):
            self.steps += 1
            with clock.phase(DATA):
                index = torch.randint(len(self.rows), (self.batch,))
                ids, labels = self.masking(self.rows[index], self.steps)
            step(
                clock,
                self.optimizer,
                lambda ids=ids: [self._encode(ids)],
                lambda hidden, labels=labels: self._loss(hidden, labels),
            )

    def _encode(self, ids: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return self.encoder(ids)

    def _loss(self, hidden: Tensor, labels: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            return self.head(hidden, self.encoder.tokens.weight, labels, bias=self.bias)


def scripts(
    rows: Tensor, *, batch: int, vocab_size: int, width: int, layers: int, precision: str
) -> list[Script]:
    """Ours and its rivals on tokens int64 [N, S]."""
    size = Size(rows.shape[1], width, layers)
    ours, theirs = Masker(vocab_size), Collator(vocab_size)
    contenders: list[tuple[str, Masking, Callable[..., Tensor]]] = [
        ("sslkernels", ours, sslkernels.masked_lm_loss),
        ("all positions, as transformers", theirs, flattened(dense)),
        ("masked positions gathered, eager", theirs, flattened(dense_gathered)),
    ]
    return [
        Bert(
            name, masking, head, rows,
            batch=batch, vocab_size=vocab_size, size=size, precision=precision,
        )
        for name, masking, head in contenders
    ]  # fmt: skip
