"""The losses as modules."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslkernels import checks
from sslkernels.losses.nt_xent import nt_xent


class NTXentLoss(nn.Module):
    """`sslkernels.nt_xent` as a module, with an optionally learnable temperature.

    Args:
        temperature: the temperature, or its first value when it is learnable.
        learnable: train it. The parameter is `log_temperature`, so the temperature stays positive.
        normalize, reduction, decoupled: as for `sslkernels.nt_xent`.

    Shape:
        z1, z2: [N, D]; the loss is 0-dim, or [2N] for reduction "none".

    Raises:
        TypeError, ValueError: the temperature is not a positive finite float, or the reduction is
            unknown; at the call, as `sslkernels.nt_xent`.
    """

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
        checks.positive_scalar("NTXentLoss", "temperature", temperature)
        checks.reduction("NTXentLoss", reduction)
        self.normalize = normalize
        self.reduction = reduction
        self.decoupled = decoupled
        self._temperature = float(temperature)
        self.log_temperature = None
        if learnable:
            self.log_temperature = nn.Parameter(torch.tensor(math.log(temperature)))

    @property
    def temperature(self) -> float | Tensor:
        """A float, or a tensor connected to `log_temperature` when learnable."""
        if self.log_temperature is None:
            return self._temperature
        return self.log_temperature.exp()

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return nt_xent(
            z1,
            z2,
            self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            decoupled=self.decoupled,
        )

    def extra_repr(self) -> str:
        temperature = self._temperature
        if self.log_temperature is not None:
            temperature = self.log_temperature.detach().exp().item()
        return (
            f"temperature={temperature:g}, "
            f"learnable={self.log_temperature is not None}, normalize={self.normalize}, "
            f"reduction={self.reduction!r}, decoupled={self.decoupled}"
        )
