"""What turns gradients into steps: AdamW, LARS, and the learning rate's course."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer


class OptimizerName(str, Enum):
    """Which optimizer."""

    adamw = "adamw"
    lars = "lars"


class LARS(Optimizer):
    """SGD with momentum, each tensor's step scaled to a fixed share of the tensor's own norm.

    Tensors with fewer than two dimensions, biases and normalisations, take a plain step without
    weight decay, as is usual in SimCLR, BYOL and Barlow Twins.

    Args:
        params: tensors, or groups of them.
        lr: learning rate.
        momentum: of the buffer, in [0, 1).
        weight_decay: added to the gradient, times the weight.
        trust: the share.

    Paper: Large Batch Training of Convolutional Networks, arXiv 1708.03888.
    """

    def __init__(
        self,
        params: Iterable[Any],
        lr: float,
        *,
        momentum: float = 0.9,
        weight_decay: float = 0.0,
        trust: float = 1e-3,
    ) -> None:
        defaults = {"lr": lr, "momentum": momentum, "weight_decay": weight_decay, "trust": trust}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:  # type: ignore[override]
        """One step; closure, if any, computes the loss and its gradients first."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for weight in group["params"]:
                if weight.grad is not None:
                    self._update(weight, weight.grad, group)
        return loss

    def _update(self, weight: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        if weight.dim() > 1:
            gradient = gradient.add(weight, alpha=group["weight_decay"])
            own, other = weight.norm(), gradient.norm()
            # A tensor of zeros could never leave them.
            known = (own > 0) & (other > 0)
            gradient = gradient * torch.where(known, group["trust"] * own / other, 1.0)
        buffer = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
        buffer.mul_(group["momentum"]).add_(gradient)
        weight.add_(buffer, alpha=-group["lr"])


def make(
    name: str,
    parameters: Iterable[nn.Parameter],
    *,
    lr: float,
    weight_decay: float,
    betas: tuple[float, float],
) -> Optimizer:
    """The optimizer of this name; parameters that want no gradient are left out. betas: AdamW's."""
    trained = [p for p in parameters if p.requires_grad]
    if name == OptimizerName.lars:
        return LARS(trained, lr=lr, weight_decay=weight_decay)
    return torch.optim.AdamW(trained, lr=lr, weight_decay=weight_decay, betas=betas)


def warmup_cosine(step: int, total: int, share: float = 0.1) -> float:
    """Factor of the learning rate at `step` of 0..total-1: linear up for a share of all steps, then
    a cosine to zero."""
    warmup = max(1, int(share * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))
