"""MoCo v2: Improved Baselines with Momentum Contrastive Learning.

Chen, Fan, Girshick, He, 2020 (arXiv 2003.04297), on MoCo (arXiv 1911.05722). A view should be close
to the key of the other view, which a slowly moving teacher makes, and far from a queue of the keys
of past batches: many negatives without a large batch.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from sslkernels.nn import MoCoQueue
from sslkernels.train.arguments import Momentum, QueueSize, Temperature, at_least, positive, share
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import Teacher, projection_head
from sslkernels.train.views import Shape

OUT = 64


class MoCo(ConvMethod[Tensor]):
    """forward: two views of each image [2, B, C, H, W] -> the loss of the first against the queue.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        temperature: Temperature = 0.2,
        momentum: Momentum = 0.97,
        queue: QueueSize = 1024,
        **network: Any,
    ) -> None:
        super().__init__(shape[0], **network)
        self.head = projection_head(self.features, hidden=self.features, out=OUT)
        self.teacher = Teacher(self.encoder, self.head)
        self.momentum = share("momentum", momentum)
        positive("temperature", temperature)
        self.queue = MoCoQueue(OUT, at_least("queue", queue, 1), temperature=temperature)
        self.keys: list[Tensor] = []  # of this step

    def forward(self, batch: Tensor, /, turn: str = "loss") -> Tensor:
        query, key = self.head(self.encoder(batch[0])), self.teacher(batch[1])
        self.keys.append(key)
        return self.queue(query, key)

    def after_step(self, done: float) -> None:
        for key in self.keys:
            self.queue.enqueue(key, group=self.group)
        self.keys.clear()
        self.teacher.follow(self.momentum, self.encoder, self.head)
