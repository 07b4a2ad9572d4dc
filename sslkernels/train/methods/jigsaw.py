"""Jigsaw: Unsupervised Learning of Visual Representations by Solving Jigsaw Puzzles.

Noroozi, Favaro, 2016 (arXiv 1603.09246). An image is cut into tiles, which are shuffled and encoded
one by one; it must be said in which of some orders they lie. The paper has 3 x 3 tiles and a choice
of orders; here there are 2 x 2, since the images are small, and all 24 orders.
"""

from __future__ import annotations

import itertools
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkernels.train.errors import TrainError
from sslkernels.train.images import Images
from sslkernels.train.methods.image import ConvMethod, PixelMethod
from sslkernels.train.views import Shape

TILES = 4
ORDERS = torch.tensor(list(itertools.permutations(range(TILES))))


class Jigsaw(ConvMethod[dict[str, Tensor]], PixelMethod):
    """forward: one view of each image [1, B, C, H, W] -> the cross entropy of its tiles' order.

    Raises:
        TrainError: sides that are odd, or shorter than 4; an option out of its range.
    """

    numbers = 1  # the order

    def __init__(self, shape: Shape, **network: Any) -> None:
        channels, *size = shape
        if min(size) < 4 or any(side % 2 for side in size):
            raise TrainError(
                f"images are {size[0]} x {size[1]}: jigsaw wants even sides, at least 4"
            )
        super().__init__(channels, **network)
        features = self.features
        # What lies where counts: the features of the tiles side by side, not their sum.
        self.head = nn.Sequential(
            nn.Linear(TILES * features, features), nn.ReLU(), nn.Linear(features, len(ORDERS))
        )

    def logits(self, images: Tensor, order: Tensor) -> Tensor:
        """Of each order [B, 24], for images [B, C, H, W] whose tiles are put in orders [B]."""
        tiles = torch.stack([x for rows in images.chunk(2, 2) for x in rows.chunk(2, 3)], 1)
        index = ORDERS.to(order.device)[order].view(-1, TILES, 1, 1, 1)
        shuffled = tiles.gather(1, index.expand_as(tiles))
        features = self.encoder(shuffled.flatten(0, 1)).unflatten(0, (-1, TILES))
        return self.head(features.flatten(1))

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        order = (batch["uniform"][:, 0] * len(ORDERS)).long()
        return F.cross_entropy(self.logits(batch["views"][0], order), order)

    def measures(self, data: Images) -> dict[str, float]:
        weight = next(self.parameters())
        orders = torch.arange(len(data.test), device=weight.device) % len(ORDERS)
        right = sum(
            int((self.logits(part.to(weight) / 255, order).argmax(1) == order).sum())
            for part, order in zip(data.test.split(256), orders.split(256), strict=True)
        )
        return {"orders told": right / len(data.test)}
