"""SimSiam: Exploring Simple Siamese Representation Learning.

Chen, He, 2020 (arXiv 2011.10566). One view predicts what the same network makes of the other, which
gets no gradient: neither negatives nor a teacher.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

import sslkernels
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import projection_head
from sslkernels.train.views import Shape


class SimSiam(ConvMethod[Tensor]):
    """forward: two views of each image [2, B, C, H, W] -> SimSiam's loss of both predictions.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(self, shape: Shape, **network: Any) -> None:
        super().__init__(shape[0], **network)
        features = self.features
        # Normalised at its end (section 4.4): without, the outputs collapse to a point.
        self.head = nn.Sequential(
            projection_head(features, hidden=features, out=features),
            nn.BatchNorm1d(features, affine=False),
        )
        self.predictor = projection_head(features, hidden=features // 4, out=features)

    def forward(self, batch: Tensor, /, turn: str = "loss") -> Tensor:
        z = self.head(self.encoder(batch.flatten(0, 1)))
        (z1, z2), (p1, p2) = z.chunk(2), self.predictor(z).chunk(2)
        return sslkernels.simsiam_loss(p1, z2, p2, z1)
