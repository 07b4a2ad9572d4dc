"""The losses, and augmentation, as modules."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sslkernels import checks
from sslkernels.augment import AugmentPolicy, arguments, augment
from sslkernels.losses.linear_cross_entropy import linear_cross_entropy
from sslkernels.losses.moco_queue import MoCoQueue
from sslkernels.losses.modules import (
    CLIPLoss,
    HardNegativeNTXentLoss,
    InfoNCELoss,
    NCELoss,
    NTXentLoss,
    SigLIPLoss,
    SupConLoss,
)
from sslkernels.losses.plain_modules import BarlowTwinsLoss, BYOLLoss, SimSiamLoss, VICRegLoss

__all__ = [
    "Augment",
    "BYOLLoss",
    "BarlowTwinsLoss",
    "CLIPLoss",
    "HardNegativeNTXentLoss",
    "InfoNCELoss",
    "LinearCrossEntropyLoss",
    "MoCoQueue",
    "NCELoss",
    "NTXentLoss",
    "SigLIPLoss",
    "SimSiamLoss",
    "SupConLoss",
    "VICRegLoss",
]


class LinearCrossEntropyLoss(nn.Module):
    """`sslkernels.linear_cross_entropy` as a module that holds the linear layer's parameters.

    They are named and initialised as those of `torch.nn.LinearCrossEntropyLoss`, so that state
    dicts fit: `linear.weight`, `linear.bias`, and the class weights as the buffer `weight`.

    Args:
        in_features, num_classes: D and V.
        bias: learn a bias [V].
        tied: hold no weight; the call gets one, say that of the input embedding. The bias, if
            any, is then the parameter `linear_bias`, zero at first.
        device, dtype: of the parameters.
        weight, reduction, ignore_index, label_smoothing, z_loss, softcap: as for
            `sslkernels.linear_cross_entropy`.

    Shape:
        input [N, D], [B, S, D] or [D]; target [N], [B, S] or [], or with a last dimension V for
        class probabilities; the loss is 0-dim, or shaped as the rows for reduction "none".

    Raises:
        TypeError, ValueError: an option out of range, a weight of the wrong length, sizes below 1;
            at the call, as `sslkernels.linear_cross_entropy`, and linear_weight missing when tied,
            or given when not.
    """

    weight: Tensor | None

    def __init__(
        self,
        in_features: int,
        num_classes: int,
        *,
        bias: bool = False,
        tied: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        weight: Tensor | None = None,
        reduction: str = "mean",
        ignore_index: int | None = -100,
        label_smoothing: float = 0.0,
        z_loss: float = 0.0,
        softcap: float | None = None,
    ) -> None:
        super().__init__()
        name = "LinearCrossEntropyLoss"
        for argument, size in (("in_features", in_features), ("num_classes", num_classes)):
            checks.integer(name, argument, size)
            if size < 1:
                raise ValueError(f"{name}: {argument} must be at least 1, got {size}")
        if weight is not None:
            checks.constant_vector(name, "weight", weight, num_classes, weight, "weight")
        checks.reduction(name, reduction)
        checks.number(name, "label_smoothing", label_smoothing, 0.0, 1.0)
        checks.number(name, "z_loss", z_loss, 0.0, math.inf)
        if softcap is not None:
            checks.positive_number(name, "softcap", softcap)
        if ignore_index is not None:
            checks.integer(name, "ignore_index", ignore_index)
        self.reduction = reduction
        self.ignore_index = ignore_index
        self.label_smoothing = label_smoothing
        self.z_loss = z_loss
        self.softcap = softcap
        self.register_buffer("weight", weight)
        self.linear = self.linear_bias = None
        if not tied:
            self.linear = nn.Linear(in_features, num_classes, bias, device, dtype)
        elif bias:
            self.linear_bias = nn.Parameter(torch.zeros(num_classes, device=device, dtype=dtype))

    def forward(
        self,
        input: Tensor,
        target: Tensor,
        *,
        linear_weight: Tensor | None = None,
        denominator: float | Tensor | None = None,
        return_terms: bool = False,
    ) -> Any:
        if (linear_weight is None) != (self.linear is not None):
            wanted = "be None when not tied" if self.linear else "be given when tied"
            raise ValueError(f"LinearCrossEntropyLoss: linear_weight must {wanted}")
        if self.linear is not None:
            linear_weight, linear_bias = self.linear.weight, self.linear.bias
        else:
            linear_bias = self.linear_bias
        assert linear_weight is not None
        return linear_cross_entropy(
            input,
            linear_weight,
            target,
            linear_bias=linear_bias,
            weight=self.weight,
            reduction=self.reduction,
            ignore_index=self.ignore_index,
            label_smoothing=self.label_smoothing,
            z_loss=self.z_loss,
            softcap=self.softcap,
            denominator=denominator,
            return_terms=return_terms,
        )

    def extra_repr(self) -> str:
        return (
            f"tied={self.linear is None}, reduction={self.reduction!r}, "
            f"ignore_index={self.ignore_index}, label_smoothing={self.label_smoothing:g}, "
            f"z_loss={self.z_loss:g}, softcap={self.softcap}"
        )


class Augment(nn.Module):
    """`sslkernels.augment` as a module, in training and evaluation alike.

    Without sample ids the images are numbered as they come, across calls, so that no two draw
    alike; the count is the buffer `seen`, and part of the state dict. With sample ids the draws of
    an image change with the epoch: call `set_epoch`.

    Args:
        policy, views, seed: as for `sslkernels.augment`.

    Shape:
        images [B, C, H, W]; sample_ids [B]; views [V, B, C, h, w], or a tuple of V tensors
        [B, C, h, w] where sizes differ.

    Raises:
        TypeError, ValueError: as `sslkernels.augment`.
    """

    seen: Tensor

    def __init__(
        self,
        policy: AugmentPolicy | Sequence[AugmentPolicy],
        *,
        views: int | None = None,
        seed: int = 0,
    ) -> None:
        super().__init__()
        self.policies = arguments.policies(policy, views, "Augment")
        arguments.integer("seed", seed, 0, 2**64 - 1)
        self.seed = seed
        self.epoch = 0
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def set_epoch(self, epoch: int) -> None:
        arguments.integer("epoch", epoch, 0, 2**24 - 1)
        self.epoch = epoch

    def forward(
        self,
        images: Tensor,
        sample_ids: Tensor | None = None,
        *,
        out: Any = None,
        return_draws: bool = False,
    ) -> Any:
        if sample_ids is None:
            batch = images.shape[0]
            sample_ids = self.seen.to(images.device) + torch.arange(batch, device=images.device)
            self.seen += batch
        return augment(
            images,
            self.policies,
            seed=self.seed,
            epoch=self.epoch,
            sample_ids=sample_ids,
            out=out,
            return_draws=return_draws,
        )

    def extra_repr(self) -> str:
        return f"seed={self.seed}, policies={list(self.policies)}"
