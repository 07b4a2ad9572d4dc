"""Barlow Twins: Self-Supervised Learning via Redundancy Reduction.

Zbontar, Jing, Misra, LeCun, Deny, 2021 (arXiv 2103.03230). Each feature should agree between the
two views of an image, and tell something that no other feature tells.
"""

from __future__ import annotations

from torch import Tensor

import sslkernels
from sslkernels.train.arguments import Encoder, EncoderOption, Width
from sslkernels.train.methods.image import SiameseMethod
from sslkernels.train.models import projection_head, small_encoder
from sslkernels.train.views import Shape


class BarlowTwins(SiameseMethod):
    """forward: two views of each image [2, B, C, H, W] -> the loss of their cross-correlations.

    Between processes the loss is averaged: each has correlations of its own share.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(
        self, shape: Shape, *, encoder: EncoderOption = Encoder.convnet, width: Width = None
    ) -> None:
        super().__init__()
        self.encoder, features = small_encoder(encoder, shape[0], width)
        # Wider than the features: the more there are, the more there is to decorrelate.
        self.head = projection_head(features, hidden=features, out=2 * features)

    def encode(self, batch: Tensor) -> tuple[Tensor, ...]:
        return tuple(self.head(self.encoder(batch.flatten(0, 1))).chunk(2))

    def compare(self, *rows: Tensor) -> Tensor:
        return sslkernels.barlow_twins_loss(*rows)
