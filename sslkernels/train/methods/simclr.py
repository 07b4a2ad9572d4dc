"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations.

Chen, Kornblith, Norouzi, Hinton, 2020 (arXiv 2002.05709). Two random views of an image should be
closer to each other, after an encoder and a projection head, than to the views of all other
images of the batch. The encoder is kept, the head is thrown away.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from torch import Tensor

import sslkernels
from sslkernels.losses.nt_xent import reference
from sslkernels.train.errors import TrainError
from sslkernels.train.methods import Method
from sslkernels.train.models import projection_head, small_convnet

LOSSES: dict[str, Callable[..., Any]] = {"fused": sslkernels.nt_xent, "eager": reference}


class SimCLR(Method[Tensor]):
    """forward: two views of each image [2, B, C, H, W] -> the NT-Xent loss of these 2B.

    Args:
        loss: "fused" (sslkernels.nt_xent) or "eager" (its dense definition); the same curve.

    Raises:
        TrainError: a temperature that is not positive and finite.
    """

    def __init__(self, channels: int, *, temperature: float = 0.2, loss: str = "fused") -> None:
        super().__init__()
        if not (math.isfinite(temperature) and temperature > 0):
            raise TrainError(f"temperature is {temperature}, must be positive and finite")
        self.encoder, features = small_convnet(channels)
        self.head = projection_head(features, hidden=features, out=64)
        self.temperature = temperature
        self.criterion = LOSSES[loss]

    def forward(self, views: Tensor, /) -> Tensor:
        # One pass for both views: batch normalisation sees them together.
        z1, z2 = self.head(self.encoder(views.flatten(0, 1))).chunk(2)
        return self.criterion(z1, z2, self.temperature)
