"""BYOL: Bootstrap Your Own Latent, A New Approach to Self-Supervised Learning.

Grill, Strub, Altche et al., 2020 (arXiv 2006.07733). One view predicts what a slowly moving teacher
makes of the other. There are no negatives.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

import sslkernels
from sslkernels.train.arguments import Momentum, share
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import Teacher, projection_head, rising
from sslkernels.train.views import Shape

OUT = 64


class BYOL(ConvMethod[Tensor]):
    """forward: two views of each image [2, B, C, H, W] -> BYOL's loss of both predictions.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(self, shape: Shape, *, momentum: Momentum = 0.97, **network: Any) -> None:
        super().__init__(shape[0], **network)
        self.momentum = share("momentum", momentum)
        features = self.features
        self.head = projection_head(features, hidden=features, out=OUT)
        self.predictor = projection_head(OUT, hidden=features, out=OUT)
        self.teacher = Teacher(self.encoder, self.head)

    def forward(self, batch: Tensor, /, turn: str = "loss") -> Tensor:
        views = batch.flatten(0, 1)
        p1, p2 = self.predictor(self.head(self.encoder(views))).chunk(2)
        t1, t2 = self.teacher(views).chunk(2)
        return sslkernels.byol_loss(p1, t2, p2, t1)

    def after_step(self, done: float) -> None:
        self.teacher.follow(rising(self.momentum, done), self.encoder, self.head)
