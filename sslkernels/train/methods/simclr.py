"""SimCLR: A Simple Framework for Contrastive Learning of Visual Representations.

Chen, Kornblith, Norouzi, Hinton, 2020 (arXiv 2002.05709). Two random views of an image should be
closer to each other, after an encoder and a projection head, than to the views of all other
images of the batch. The encoder is kept, the head is thrown away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

import sslkernels
from sslkernels.losses.nt_xent import reference
from sslkernels.train.arguments import Loss, LossOption, Temperature, positive
from sslkernels.train.methods.image import SiameseMethod
from sslkernels.train.models import projection_head
from sslkernels.train.views import Shape

LOSSES: dict[str, Callable[..., Any]] = {"fused": sslkernels.nt_xent, "eager": reference}


class SimCLR(SiameseMethod):
    """forward: two views of each image [2, B, C, H, W] -> the NT-Xent loss of these 2B.

    Args:
        loss: "fused" (sslkernels.nt_xent) or "eager" (its dense definition); the same curve.

    Raises:
        TrainError: an option out of its range.
    """

    def __init__(
        self,
        shape: Shape,
        *,
        temperature: Temperature = 0.2,
        loss: LossOption = Loss.fused,
        **network: Any,
    ) -> None:
        super().__init__(shape[0], **network)
        self.temperature = positive("temperature", temperature)
        self.head = projection_head(self.features, hidden=self.features, out=64)
        self.criterion = LOSSES[loss]

    def encode(self, batch: Tensor) -> tuple[Tensor, Tensor]:
        # One pass for both views: batch normalisation sees them together.
        z1, z2 = self.head(self.encoder(batch.flatten(0, 1))).chunk(2)
        return z1, z2

    def compare(self, *rows: Tensor) -> Tensor:
        return self.criterion(*rows, self.temperature, **self.across)
