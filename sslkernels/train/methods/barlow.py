"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

Zbontar, Jing, Misra, LeCun, Deny, 2021 (arXiv 2103.03230). Each feature should agree between the
two views of an image, and tell something that no other feature tells.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

import sslkernels
from sslkernels.train.methods.image import SiameseMethod
from sslkernels.train.models import projection_head
from sslkernels.train.views import Shape


class BarlowTwins(SiameseMethod):
    """forward: two views of each image [2, B, C, H, W] -> the loss of their cross-correlations.

    Between processes the loss is averaged: each has correlations of its own share.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(self, shape: Shape, **network: Any) -> None:
        super().__init__(shape[0], **network)
        # Wider than the features: the more there are, the more there is to decorrelate.
        self.head = projection_head(self.features, self.features, out=2 * self.features)

    def encode(self, batch: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(self.encoder(batch.flatten(0, 1))).chunk(2))

    def compare(self, *rows: Tensor) -> Tensor:
        return sslkernels.barlow_twins_loss(*rows)
