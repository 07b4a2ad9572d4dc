"""Sampling-Bias-Corrected Neural Modeling for Large Corpus Item Recommendations.

Yi, Yang, Hong, Cheng, Heldt, Kumthekar, Zhao, Wei, Chi, RecSys 2019. A tower for users, one for
items; a user should be close to the item it took, and far from what the others of the batch took.
Popular items are in more batches: the logarithm of an item's share is taken off its logit (log-Q).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import sslkernels
from sslkernels.train.arguments import Temperature, positive
from sslkernels.train.methods import Contrastive
from sslkernels.train.pairs.table import Pairs

WIDTH, OUT = 64, 32


class TwoTower(Contrastive[Tensor]):
    """forward: users and the items they took [B, 2] -> InfoNCE with the log-Q correction; another
    user's item that is the same one is no negative.

    Raises:
        TrainError: a temperature that is not positive and finite.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"data": "digits", "epochs": 20, "lr": 5e-3}
    log_share: Tensor

    def __init__(self, pairs: Pairs, *, temperature: Temperature = 0.1) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.encoder = tower(pairs.lefts)
        self.items = tower(pairs.rights)
        counts = torch.bincount(pairs.train[:, 1], minlength=pairs.rights)
        self.register_buffer("log_share", (counts.clamp(min=1) / len(pairs.train)).log())

    def encode(self, batch: Tensor) -> tuple[Tensor, ...]:
        user, item = batch.unbind(1)
        return self.encoder(user), self.items(item), item

    def compare(self, *rows: Tensor) -> Tensor:
        user, item, numbers = rows
        return sslkernels.info_nce(
            user,
            item,
            temperature=self.temperature,
            bias=-self.log_share[numbers],
            ids=numbers,
            **self.across,
        )

    def scores(self, pairs: Pairs) -> Tensor:
        """Cosines of all users and items [lefts, rights], on the CPU."""
        device = self.log_share.device
        user, item = (
            nn.functional.normalize(side(torch.arange(n, device=device)), dim=1)
            for side, n in ((self.encoder, pairs.lefts), (self.items, pairs.rights))
        )
        return (user @ item.T).float().cpu()


def tower(count: int) -> nn.Module:
    """Numbers [B] below count -> [B, OUT]."""
    return nn.Sequential(
        nn.Embedding(count, WIDTH), nn.Linear(WIDTH, WIDTH), nn.ReLU(), nn.Linear(WIDTH, OUT)
    )
