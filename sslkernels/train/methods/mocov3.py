"""MoCo v3: An Empirical Study of Training Self-Supervised Vision Transformers.

Chen, Xie, He, 2021 (arXiv 2104.02057). MoCo without a queue: a predicted view should be close to
the other view as the teacher sees it, and far from those of all other images of the batch. The
paper's encoder is a ViT; here it is the small convolutional one of all methods.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

import sslkernels
from sslkernels.train.arguments import Momentum, Temperature, positive, share
from sslkernels.train.methods.image import SiameseMethod
from sslkernels.train.models import Teacher, projection_head, rising
from sslkernels.train.views import Shape

OUT = 64


class MoCoV3(SiameseMethod):
    """forward: two views of each image [2, B, C, H, W] -> InfoNCE, either view in either place.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        temperature: Temperature = 0.2,
        momentum: Momentum = 0.97,
        **network: Any,
    ) -> None:
        super().__init__(shape[0], **network)
        self.temperature = positive("temperature", temperature)
        self.momentum = share("momentum", momentum)
        features = self.features
        self.head = projection_head(features, hidden=features, out=OUT)
        self.predictor = projection_head(OUT, hidden=features, out=OUT)
        self.teacher = Teacher(self.encoder, self.head)

    def encode(self, batch: Tensor) -> tuple[Tensor, ...]:
        views = batch.flatten(0, 1)
        queries = self.predictor(self.head(self.encoder(views))).chunk(2)
        return *queries, *self.teacher(views).chunk(2)

    def compare(self, *rows: Tensor) -> Tensor:
        q1, q2, k1, k2 = rows
        pairs = ((q1, k2.detach()), (q2, k1.detach()))
        losses = [
            sslkernels.info_nce(q, k, temperature=self.temperature, **self.across) for q, k in pairs
        ]
        # The paper's factor keeps the step's size when the temperature changes.
        return 2 * self.temperature * (losses[0] + losses[1])

    def after_step(self, done: float) -> None:
        self.teacher.follow(rising(self.momentum, done), self.encoder, self.head)
