"""The contrastive losses as modules: what `sslkernels.nn` shows of them."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from sslkernels import checks
from sslkernels.losses import reweighted
from sslkernels.losses.clip import clip_loss
from sslkernels.losses.hard_negatives import hard_negative_nt_xent
from sslkernels.losses.info_nce import info_nce
from sslkernels.losses.nce import nce_loss
from sslkernels.losses.nt_xent import nt_xent
from sslkernels.losses.siglip import siglip_loss
from sslkernels.losses.supcon import supcon


class _TemperatureLoss(nn.Module):
    """A loss with a temperature, and a parameter `log_temperature` where it is learnable."""

    def __init__(
        self, temperature: float, learnable: bool, normalize: bool, reduction: str
    ) -> None:
        super().__init__()
        name = type(self).__name__
        checks.positive_number(name, "temperature", temperature)
        checks.reduction(name, reduction)
        self.normalize = normalize
        self.reduction = reduction
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

    def extra_repr(self) -> str:
        temperature = self._temperature
        if self.log_temperature is not None:
            temperature = self.log_temperature.detach().exp().item()
        return (
            f"temperature={temperature:g}, "
            f"learnable={self.log_temperature is not None}, normalize={self.normalize}, "
            f"reduction={self.reduction!r}"
        )


class NTXentLoss(_TemperatureLoss):
    """`sslkernels.nt_xent` as a module, with an optionally learnable temperature.

    Args:
        temperature: the temperature, or its first value when it is learnable.
        learnable: train it. The parameter is `log_temperature`, so the temperature stays positive.
        normalize, reduction, decoupled, sigma, group, exchange: as for `sslkernels.nt_xent`.

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
        sigma: float | None = None,
        group: object | None = None,
        exchange: str = "gather",
    ) -> None:
        checks.positive_scalar("NTXentLoss", "temperature", temperature)
        super().__init__(float(temperature), learnable, normalize, reduction)
        if sigma is not None:
            checks.positive_number("NTXentLoss", "sigma", sigma)
        self.decoupled = decoupled
        self.sigma = sigma
        self.group, self.exchange = group, exchange

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return nt_xent(
            z1,
            z2,
            self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            decoupled=self.decoupled,
            sigma=self.sigma,
            group=self.group,
            exchange=self.exchange,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, decoupled={self.decoupled}, sigma={self.sigma}"


class HardNegativeNTXentLoss(_TemperatureLoss):
    """`sslkernels.hard_negative_nt_xent` as a module.

    Args:
        temperature, learnable: as for `NTXentLoss`.
        beta, tau_plus, normalize, reduction: as for `sslkernels.hard_negative_nt_xent`.

    Shape:
        z1, z2: [N, D]; the loss is 0-dim, or [2N] for reduction "none".

    Raises:
        TypeError, ValueError: an option out of range; at the call, as
            `sslkernels.hard_negative_nt_xent`.
    """

    def __init__(
        self,
        temperature: float = 0.5,
        *,
        beta: float = 1.0,
        tau_plus: float = 0.1,
        learnable: bool = False,
        normalize: bool = True,
        reduction: str = "mean",
    ) -> None:
        super().__init__(temperature, learnable, normalize, reduction)
        reweighted.check("HardNegativeNTXentLoss", beta, tau_plus)
        self.beta = beta
        self.tau_plus = tau_plus

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return hard_negative_nt_xent(
            z1,
            z2,
            self.temperature,
            beta=self.beta,
            tau_plus=self.tau_plus,
            normalize=self.normalize,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, beta={self.beta:g}, tau_plus={self.tau_plus:g}"


class InfoNCELoss(_TemperatureLoss):
    """`sslkernels.info_nce` as a module, with an optionally learnable temperature.

    Args:
        temperature: the temperature, or its first value when it is learnable.
        learnable: train it. The parameter is `log_temperature`, so the temperature stays positive.
        normalize, reduction, in_batch, beta, tau_plus, group, exchange: as for
            `sslkernels.info_nce`.

    Shape:
        query, positive [N, D], negatives [K, D] or [N, K, D]; bias, ids and negative_ids as for
        `sslkernels.info_nce`; the loss is 0-dim, or [N] for reduction "none".

    Raises:
        TypeError, ValueError: an option out of range; at the call, as `sslkernels.info_nce`.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        normalize: bool = True,
        reduction: str = "mean",
        in_batch: bool = False,
        beta: float = 0.0,
        tau_plus: float = 0.0,
        group: object | None = None,
        exchange: str = "gather",
    ) -> None:
        super().__init__(temperature, learnable, normalize, reduction)
        reweighted.check("InfoNCELoss", beta, tau_plus)
        self.in_batch = in_batch
        self.beta = beta
        self.tau_plus = tau_plus
        self.group, self.exchange = group, exchange

    def forward(
        self,
        query: Tensor,
        positive: Tensor,
        negatives: Tensor | None = None,
        *,
        bias: Tensor | None = None,
        ids: Tensor | None = None,
        negative_ids: Tensor | None = None,
    ) -> Tensor:
        return info_nce(
            query,
            positive,
            negatives,
            temperature=self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            in_batch=self.in_batch,
            bias=bias,
            ids=ids,
            negative_ids=negative_ids,
            beta=self.beta,
            tau_plus=self.tau_plus,
            group=self.group,
            exchange=self.exchange,
        )

    def extra_repr(self) -> str:
        return (
            f"{super().extra_repr()}, in_batch={self.in_batch}, beta={self.beta:g}, "
            f"tau_plus={self.tau_plus:g}"
        )


class SupConLoss(_TemperatureLoss):
    """`sslkernels.supcon` as a module, with an optionally learnable temperature.

    Args:
        temperature, learnable: as for `InfoNCELoss`.
        normalize, reduction, group, exchange: as for `sslkernels.supcon`.

    Shape:
        z [M, D], labels [M]; the loss is 0-dim, or [M] for reduction "none".

    Raises:
        TypeError, ValueError: as `InfoNCELoss`; at the call, as `sslkernels.supcon`.
    """

    def __init__(
        self,
        temperature: float = 0.1,
        *,
        learnable: bool = False,
        normalize: bool = True,
        reduction: str = "mean",
        group: object | None = None,
        exchange: str = "gather",
    ) -> None:
        super().__init__(temperature, learnable, normalize, reduction)
        self.group, self.exchange = group, exchange

    def forward(self, z: Tensor, labels: Tensor) -> Tensor:
        return supcon(
            z,
            labels,
            self.temperature,
            normalize=self.normalize,
            reduction=self.reduction,
            group=self.group,
            exchange=self.exchange,
        )


class NCELoss(nn.Module):
    """`sslkernels.nce_loss` as a module, with an optionally learnable scale.

    Args:
        scale: the scale of the logits, or its first value when it is learnable.
        learnable: train it. The parameter is `logit_scale`, its logarithm, so it stays positive.
        normalize, reduction: as for `sslkernels.nce_loss`.

    Shape:
        query, positive [N, D], noise [K, D] or [N, K, D]; positive_log_prob and noise_log_prob as
        for `sslkernels.nce_loss`; the loss is 0-dim, or [N] for reduction "none".

    Raises:
        TypeError, ValueError: a scale that is not a positive finite float, an unknown reduction; at
            the call, as `sslkernels.nce_loss`.
    """

    def __init__(
        self,
        scale: float = 1.0,
        *,
        learnable: bool = False,
        normalize: bool = False,
        reduction: str = "mean",
    ) -> None:
        super().__init__()
        checks.positive_number("NCELoss", "scale", scale)
        checks.reduction("NCELoss", reduction)
        self.normalize = normalize
        self.reduction = reduction
        self._scale = float(scale)
        self.logit_scale = None
        if learnable:
            self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def scale(self) -> float | Tensor:
        """A float, or a tensor connected to `logit_scale` when learnable."""
        return self._scale if self.logit_scale is None else self.logit_scale.exp()

    def forward(
        self,
        query: Tensor,
        positive: Tensor,
        noise: Tensor,
        *,
        positive_log_prob: Tensor | None = None,
        noise_log_prob: Tensor | None = None,
    ) -> Tensor:
        return nce_loss(
            query,
            positive,
            noise,
            positive_log_prob=positive_log_prob,
            noise_log_prob=noise_log_prob,
            scale=self.scale,
            normalize=self.normalize,
            reduction=self.reduction,
        )

    def extra_repr(self) -> str:
        scale = self._scale if self.logit_scale is None else self.logit_scale.detach().exp().item()
        return (
            f"scale={scale:g}, learnable={self.logit_scale is not None}, "
            f"normalize={self.normalize}, reduction={self.reduction!r}"
        )


class _PairLoss(nn.Module):
    """A loss of images and texts with a learnable scale, held as its logarithm `logit_scale`."""

    def __init__(
        self, scale: float, max_scale: float, normalize: bool, group: object | None, exchange: str
    ) -> None:
        super().__init__()
        name = type(self).__name__
        checks.positive_number(name, "scale", scale)
        checks.positive_number(name, "max_scale", max_scale)
        self.normalize = normalize
        self.group, self.exchange = group, exchange
        self.max_scale = float(max_scale)
        self.logit_scale = nn.Parameter(torch.tensor(math.log(scale)))

    @property
    def scale(self) -> Tensor:
        """The factor of the logits, at most max_scale.

        Beyond it the gradient of the parameter passes as at the limit, so that it finds back.
        """
        limited = self.logit_scale.clamp(max=math.log(self.max_scale))
        return (self.logit_scale + (limited - self.logit_scale).detach()).exp()

    def extra_repr(self) -> str:
        scale = self.scale.detach().item()
        return f"scale={scale:g}, max_scale={self.max_scale:g}, normalize={self.normalize}"


class CLIPLoss(_PairLoss):
    """`sslkernels.clip_loss` as a module that holds the learnable scale of the logits.

    The parameter is `logit_scale`, the logarithm of the scale, named as in CLIP's own models.

    Args:
        scale: its first value.
        max_scale: the scale that is used is at most this one.
        normalize, group, exchange: as for `sslkernels.clip_loss`.

    Shape:
        image, text [N, D]; the loss is 0-dim.

    Raises:
        TypeError, ValueError: a scale that is not a positive finite float; at the call, as
            `sslkernels.clip_loss`.
    """

    def __init__(
        self,
        scale: float = 1 / 0.07,
        *,
        max_scale: float = 100.0,
        normalize: bool = True,
        group: object | None = None,
        exchange: str = "gather",
    ) -> None:
        super().__init__(scale, max_scale, normalize, group, exchange)

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return clip_loss(
            image,
            text,
            self.scale,
            normalize=self.normalize,
            group=self.group,
            exchange=self.exchange,
        )


class SigLIPLoss(_PairLoss):
    """`sslkernels.siglip_loss` as a module that holds the learnable scale and bias of the logits.

    The parameters are `logit_scale`, the logarithm of the scale, and `logit_bias`.

    Args:
        scale, bias: their first values.
        max_scale: the scale that is used is at most this one.
        normalize, group, exchange: as for `sslkernels.siglip_loss`.

    Shape:
        image, text [N, D]; the loss is 0-dim.

    Raises:
        TypeError, ValueError: a scale that is not a positive finite float, a bias that is not a
            finite float; at the call, as `sslkernels.siglip_loss`.
    """

    def __init__(
        self,
        scale: float = 10.0,
        bias: float = -10.0,
        *,
        max_scale: float = 100.0,
        normalize: bool = True,
        group: object | None = None,
        exchange: str = "gather",
    ) -> None:
        super().__init__(scale, max_scale, normalize, group, exchange)
        checks.finite_scalar("SigLIPLoss", "bias", bias, self.logit_scale, "logit_scale")
        self.logit_bias = nn.Parameter(torch.tensor(float(bias)))

    def forward(self, image: Tensor, text: Tensor) -> Tensor:
        return siglip_loss(
            image,
            text,
            self.scale,
            self.logit_bias,
            normalize=self.normalize,
            group=self.group,
            exchange=self.exchange,
        )

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, bias={self.logit_bias.detach().item():g}"
