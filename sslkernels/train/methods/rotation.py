"""RotNet: Unsupervised Representation Learning by Predicting Image Rotations.

Gidaris, Singh, Komodakis, 2018 (arXiv 1803.07728). Every image is shown in its four rotations, and
it must be said which one each is.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import features
from sslkernels.train.images import Images
from sslkernels.train.methods.image import ConvMethod, PixelMethod
from sslkernels.train.views import Shape

TURNS = 4


class Rotation(ConvMethod[dict[str, Tensor]], PixelMethod):
    """forward: one view of each image [1, B, C, H, W], of equal sides -> the cross entropy of 4B.

    Raises:
        TrainError: sides that differ; an option out of its range.
    """

    def __init__(self, shape: Shape, **network: Any) -> None:
        if shape[1] != shape[2]:
            raise TrainError(f"images are {shape[1]} x {shape[2]}: rotation wants equal sides")
        super().__init__(shape[0], **network)
        self.head = nn.Linear(self.features, TURNS)

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        rotated, truth = turned(batch["views"][0])
        return F.cross_entropy(self.head(self.encoder(rotated)), truth)

    def measures(self, data: Images) -> dict[str, float]:
        rotated, truth = turned(data.test)
        guess = features(nn.Sequential(self.encoder, self.head), rotated).argmax(1)
        return {"rotations told": (guess == truth).double().mean().item()}


def turned(images: Tensor) -> tuple[Tensor, Tensor]:
    """The four rotations of images [B, C, H, H], and which ones they are: [4 B, ...], [4 B]."""
    rotated = torch.cat([images.rot90(k, (2, 3)) for k in range(TURNS)])
    truth = torch.arange(TURNS, device=images.device).repeat_interleave(len(images))
    return rotated, truth
