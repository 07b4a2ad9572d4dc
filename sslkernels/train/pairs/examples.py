"""Pairs in batches, and how well a method ranks those that were held out."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.train.errors import TrainError
from sslkernels.train.pairs.table import Pairs


class Rows:
    """Examples that are pairs, the same in every epoch."""

    unit = "pairs"

    def __init__(self, pairs: Tensor) -> None:
        self.pairs = pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def batch(self, index: Tensor, epoch: int) -> Tensor:
        """int64 [B, 2]."""
        return self.pairs[index]


def recall(scores: Tensor, pairs: Pairs, k: int) -> float:
    """Share of the held-out pairs whose right thing is among the k best of the left one's, those
    left out that it is known to have. scores: [lefts, rights]."""
    scores = scores.clone()
    scores[pairs.train[:, 0], pairs.train[:, 1]] = -torch.inf
    best = scores[pairs.test[:, 0]].topk(min(k, pairs.rights), dim=1).indices
    return (best == pairs.test[:, 1:]).any(1).double().mean().item()


def popularity(pairs: Pairs) -> Tensor:
    """How often each right thing is taken, as scores [lefts, rights]."""
    counts = torch.bincount(pairs.train[:, 1], minlength=pairs.rights).double()
    return counts.expand(pairs.lefts, -1)


def auc(scores: Tensor, pairs: Pairs, *, seed: int = 0) -> float:
    """Chance that a held-out pair scores above a random one that is in neither part; ties count
    half. scores: [lefts, rights]; as many random pairs are drawn as are held out.

    Raises:
        TrainError: there are no pairs but those of the two parts.
    """
    known = torch.zeros(pairs.lefts, pairs.rights, dtype=torch.bool)
    for part in (pairs.train, pairs.test):
        known[part[:, 0], part[:, 1]] = True
    known.fill_diagonal_(True)  # of a graph; one pair in many of any other table
    free = (~known).nonzero()
    if not len(free):
        raise TrainError(
            f"all {pairs.lefts} things are linked with each other: no pair is left to tell from "
            "those held out"
        )
    generator = torch.Generator().manual_seed(seed)
    drawn = free[torch.randint(len(free), (len(pairs.test),), generator=generator)]
    true, false = (scores[x[:, 0], x[:, 1]] for x in (pairs.test, drawn))
    above = (true[:, None] > false).double() + 0.5 * (true[:, None] == false).double()
    return above.mean().item()
