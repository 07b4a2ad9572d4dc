"""One method a file: which networks, which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic

from torch import Tensor, nn

from sslkernels.train.data import Batch


class Method(nn.Module, ABC, Generic[Batch]):
    """What the shared loop trains; the part to keep is called `encoder`."""

    @abstractmethod
    def forward(self, batch: Batch, /) -> Tensor:
        """The loss of a batch."""
