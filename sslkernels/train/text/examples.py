"""What the models are shown: pairs of segments for BERT, windows for GPT."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import sslkernels
from sslkernels.train.errors import TrainError
from sslkernels.train.seeds import fold
from sslkernels.train.text.tokenizer import CLS, MASK, PAD, SEP, SPECIAL_IDS


class Pairs:
    """[CLS] A [SEP] B [SEP], tokens masked (arXiv 1810.04805, 3.1 and A.1).

    A and B are consecutive pieces of one document; in half of the examples B comes from another
    document, drawn anew in each epoch, as is what is masked. Both depend on seed, epoch and the
    number of the example alone. A document's end may leave B short: it is padded.

    Args:
        documents: token ids, int64 [n] each.
        length: of an example, in tokens.
        vocab_size: masked tokens are sometimes replaced by any of these.

    Raises:
        TrainError: fewer than two documents are long enough for a pair.
    """

    unit = "pairs"

    def __init__(
        self, documents: Sequence[Tensor], *, length: int, vocab_size: int, seed: int
    ) -> None:
        text = length - 3
        self.first = (text + 1) // 2  # tokens of A; B has the rest
        rows = [paired(tokens, self.first, text) for tokens in documents]
        counts = torch.tensor([len(pairs) for pairs in rows])
        if (counts > 0).sum() < 2:
            raise TrainError(
                f"length is {length}, but of {len(rows)} documents "
                f"{int((counts > 0).sum())} have the {self.first + 1} tokens of a pair"
            )
        self.rows = torch.cat(rows)
        self.vocab_size = vocab_size
        self.seed = seed
        # Of each example: where its document's examples start, and how many they are.
        self.start = (counts.cumsum(0) - counts).repeat_interleave(counts)
        self.count = counts.repeat_interleave(counts)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """Examples as tensors [B, length], and [B] where said.

        ids: int64, tokens with some masked; real: bool, no padding; segments: int64, 0 for A and 1
        for B; labels: int64, the token where it was masked, else -100; random: int64 [B], 1 where B
        comes from another document.
        """
        random, source = self.draw(epoch)
        b = F.pad(self.rows[source[index], self.first :], (0, 1), value=PAD)
        end = (b != PAD).sum(dim=1, keepdim=True)
        ids = torch.cat(
            [
                torch.full((len(index), 1), CLS),
                self.rows[index, : self.first],
                torch.full((len(index), 1), SEP),
                b.scatter(1, end, SEP),
            ],
            dim=1,
        )
        masked, labels = sslkernels.mask_tokens(
            ids,
            mask_token_id=MASK,
            vocab_size=self.vocab_size,
            special_ids=SPECIAL_IDS,
            sequence_ids=index,
            seed=fold(self.seed, "masks", epoch),
        )
        segments = (torch.arange(ids.shape[1]) >= self.first + 2).long()
        return {
            "ids": masked,
            "real": ids != PAD,
            "segments": segments.repeat(len(index), 1),
            "labels": labels,
            "random": random[index].long(),
        }

    def draw(self, epoch: int) -> tuple[Tensor, Tensor]:
        """Of all examples: is B random, and which example it is taken from."""
        generator = torch.Generator().manual_seed(fold(self.seed, "pairs", epoch))
        random = torch.rand(len(self), generator=generator) < 0.5
        # Uniform over the examples of all other documents: those of its own are stepped over.
        uniform = torch.rand(len(self), generator=generator, dtype=torch.float64)
        other = (uniform * (len(self) - self.count)).long()
        other += torch.where(other >= self.start, self.count, 0)
        return random, torch.where(random, other, torch.arange(len(self)))


def paired(tokens: Tensor, first: int, length: int) -> Tensor:
    """A document as rows [n, length], padded; no row in which there is nothing after `first`."""
    rows = F.pad(tokens, (0, -len(tokens) % length), value=PAD).view(-1, length)
    return rows[rows[:, first] != PAD]


class Windows:
    """Consecutive tokens, all documents in a row, each closed by [SEP]; the rest is left out.

    Args:
        documents: token ids, int64 [n] each.
        length: of a window, in tokens.
    """

    unit = "windows"

    def __init__(self, documents: Sequence[Tensor], *, length: int) -> None:
        stream = torch.cat([F.pad(tokens, (0, 1), value=SEP) for tokens in documents])
        self.rows = stream[: len(stream) // length * length].view(-1, length)

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """ids: int64 [B, length], the same in every epoch."""
        return {"ids": self.rows[index]}
