"""SEED: Self-supervised Distillation for Visual Representation.

Fang, Wang, Wang, Zhang, Yang, Liu, 2021 (arXiv 2101.04731). A small encoder learns to see an
image's likeness to a queue of others as a larger, trained encoder does, that of another run.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from torch import Tensor
from torch.nn import functional as F

import sslkernels
from sslkernels.nn import MoCoQueue
from sslkernels.train.arguments import QueueSize, at_least, positive
from sslkernels.train.errors import TrainError
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import projection_head
from sslkernels.train.views import Shape, small

TeacherRun = Annotated[
    Path | None, typer.Option(help="Folder of a finished run on images of the same channels.")
]
StudentWidth = Annotated[int, typer.Option(help="Channels of the student's first layer.")]
StudentTemperature = Annotated[float, typer.Option(help="Of the student's and teacher's choice.")]


class Distil(ConvMethod[Tensor]):
    """forward: one view of each image [1, B, C, H, W] -> the divergence of the student's likenesses
    from the teacher's.

    Raises:
        TrainError: no teacher, or one that cannot be read or sees other images; an option out of
            its range.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        teacher: TeacherRun = None,
        width: StudentWidth = 8,
        temperature: StudentTemperature = 0.1,
        queue: QueueSize = 1024,
        **network: Any,
    ) -> None:
        # Here, since that module knows all methods, this one among them.
        from sslkernels.train.finished import read

        if teacher is None:
            raise TrainError("distil wants --teacher, the folder of a finished run")
        run = read(Path(teacher))
        channels = run.facts["shape"][0]
        if channels != shape[0]:
            raise TrainError(f"{teacher} saw images of {channels} channels, these have {shape[0]}")
        super().__init__(channels, width=width, **network)
        self.teacher = run.method.encoder.requires_grad_(False)
        with torch.no_grad():
            wide = self.teacher.eval()(torch.zeros(1, *shape)).shape[1]
        self.head = projection_head(self.features, hidden=self.features, out=wide)
        self.temperature = positive("temperature", temperature)
        self.queue = MoCoQueue(wide, at_least("queue", queue, 1))
        self.seen: list[Tensor] = []

    @classmethod
    def views(cls, shape: Shape) -> tuple[sslkernels.AugmentPolicy, ...]:
        return (small(shape),)

    def train(self, mode: bool = True) -> Distil:
        super().train(mode)
        self.teacher.eval()
        return self

    def forward(self, batch: Tensor, /, turn: str = "loss") -> Tensor:
        student = F.normalize(self.head(self.encoder(batch[0])), dim=1) / self.temperature
        with torch.no_grad():
            rows = F.normalize(self.teacher(batch[0]), dim=1)
        self.seen.append(rows)
        # Its own among the queue, as in the paper: what it is to be closest to.
        keys = torch.cat([rows, self.queue.keys.to(rows.dtype)])
        return sslkernels.distillation_loss(
            student, keys.to(student.dtype), rows / self.temperature, keys
        )

    def after_step(self, done: float) -> None:
        for rows in self.seen:
            self.queue.enqueue(rows.to(self.queue.keys.dtype), group=self.group)
        self.seen.clear()
