"""One method a file: which views, which networks, which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor, nn


class Method(nn.Module, ABC):
    """What the shared loop trains; `encoder` is the part to keep."""

    encoder: nn.Module

    @abstractmethod
    def forward(self, images: Tensor, generator: torch.Generator) -> Tensor:
        """The loss of a batch [B, C, H, W] in 0..1; the views are drawn from the generator."""
