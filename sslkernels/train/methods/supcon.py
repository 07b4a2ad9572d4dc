"""SupCon: Supervised Contrastive Learning.

Khosla, Teterwak, Wang et al., 2020 (arXiv 2004.11362). All views of all images of a class should be
close to each other. Trains with the labels: an upper mark for the methods that do without.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor
from typing_extensions import Self

import sslkernels
from sslkernels.train.arguments import Temperature, positive
from sslkernels.train.errors import TrainError
from sslkernels.train.methods import Contrastive
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import projection_head
from sslkernels.train.views import Shape


class SupCon(ConvMethod[dict[str, Tensor]], Contrastive[dict[str, Tensor]]):
    """forward: two views of each image, and its label -> the supervised contrastive loss.

    Raises:
        TrainError: an option out of its range; fewer than two classes.
    """

    drawn = True

    def __init__(self, shape: Shape, *, temperature: Temperature = 0.1, **network: Any) -> None:
        super().__init__(shape[0], **network)
        self.temperature = positive("temperature", temperature)
        self.head = projection_head(self.features, hidden=self.features, out=64)

    @classmethod
    def made_for(cls, facts: Mapping[str, Any], **options: Any) -> Self:
        if len(facts["names"]) < 2:
            raise TrainError("the data has no classes, which supcon is about")
        return super().made_for(facts, **options)

    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        views = batch["views"]
        rows = self.head(self.encoder(views.flatten(0, 1)))
        return rows, batch["labels"].repeat(len(views))

    def compare(self, *rows: Tensor) -> Any:
        rows_of_views, labels = rows
        return sslkernels.supcon(rows_of_views, labels, self.temperature, **self.across)
