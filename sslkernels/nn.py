"""The losses as modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslkernels.losses.nt_xent import nt_xent


class NTXentLoss(nn.Module):
    """`sslkernels.nt_xent` as a module, with an optionally learnable temperature."""

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        learnable: bool = False,
        normalize: bool = True,
        reduction: str = "mean",
        decoupled: bool = False,
    ) -> None:
        super().__init__()
        self.log_temperature = (
            nn.Parameter(torch.tensor(math.log(temperature))) if learnable else None
        )
        self.fixed_temperature = temperature
        self.normalize = normalize
        self.reduction = reduction
        self.decoupled = decoupled

    @property
    def temperature(self) -> float | Tensor:
        if self.log_temperature is None:
            return self.fixed_temperature
        return self.log_temperature.exp()

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        loss = nt_xent(
            z1,
            z2,
            self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            decoupled=self.decoupled,
        )
        assert isinstance(loss, Tensor)
        return loss
