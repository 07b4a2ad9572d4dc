"""The losses without a matrix of logits as modules: what `sslkernels.nn` shows of them."""

from __future__ import annotations

import math

from torch import Tensor, nn

from sslkernels import checks
from sslkernels.losses.cosine import byol_loss, simsiam_loss
from sslkernels.losses.decorrelation import barlow_twins_loss, vicreg_loss


class _PredictionLoss(nn.Module):
    """A loss of predictions against targets, one way or both."""

    function = staticmethod(byol_loss)

    def __init__(self, *, reduction: str = "mean") -> None:
        super().__init__()
        checks.reduction(type(self).__name__, reduction)
        self.reduction = reduction

    def forward(
        self,
        prediction: Tensor,
        target: Tensor,
        swapped_prediction: Tensor | None = None,
        swapped_target: Tensor | None = None,
    ) -> Tensor:
        return self.function(
            prediction, target, swapped_prediction, swapped_target, reduction=self.reduction
        )

    def extra_repr(self) -> str:
        return f"reduction={self.reduction!r}"


class BYOLLoss(_PredictionLoss):
    """`sslkernels.byol_loss` as a module.

    Shape:
        four or two matrices [N, D]; the loss is 0-dim, or [N] for reduction "none".

    Raises:
        ValueError: an unknown reduction; at the call, as `sslkernels.byol_loss`.
    """


class SimSiamLoss(_PredictionLoss):
    """`sslkernels.simsiam_loss` as a module; as `BYOLLoss`."""

    function = staticmethod(simsiam_loss)


class _Options(nn.Module):
    """Options that are numbers of at least 0."""

    def __init__(self, **options: float) -> None:
        super().__init__()
        for name, value in options.items():
            checks.number(type(self).__name__, name, value, 0.0, math.inf)
        self.options = options

    def extra_repr(self) -> str:
        return ", ".join(f"{name}={value:g}" for name, value in self.options.items())


class BarlowTwinsLoss(_Options):
    """`sslkernels.barlow_twins_loss` as a module.

    Args:
        redundancy, eps: as for `sslkernels.barlow_twins_loss`.

    Shape:
        z1, z2: [N, D]; the loss is 0-dim.

    Raises:
        TypeError, ValueError: an option out of range; at the call, as
            `sslkernels.barlow_twins_loss`.
    """

    def __init__(self, *, redundancy: float = 0.005, eps: float = 1e-5) -> None:
        super().__init__(redundancy=redundancy, eps=eps)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return barlow_twins_loss(z1, z2, **self.options)


class VICRegLoss(_Options):
    """`sslkernels.vicreg_loss` as a module.

    Args:
        invariance, variance, covariance, eps: as for `sslkernels.vicreg_loss`.

    Shape:
        z1, z2: [N, D]; the loss is 0-dim.

    Raises:
        TypeError, ValueError: an option out of range; at the call, as `sslkernels.vicreg_loss`.
    """

    def __init__(
        self,
        *,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        eps: float = 1e-4,
    ) -> None:
        super().__init__(invariance=invariance, variance=variance, covariance=covariance, eps=eps)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return vicreg_loss(z1, z2, **self.options)
