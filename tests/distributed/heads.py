"""Every head that takes `group=`, with a small model, for the tests of several processes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

import sslkernels
from sslkernels.losses import clip, info_nce, nt_xent, siglip, supcon

FEATURES, WIDTH = 12, 8


class Model(torch.nn.Module):
    """Two encoders, and what a loss may have to learn."""

    def __init__(self, loss: Callable[..., Tensor]) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.loss = loss
        self.first = torch.nn.Linear(FEATURES, WIDTH)
        self.second = torch.nn.Linear(FEATURES, WIDTH)
        self.second.load_state_dict(self.first.state_dict())
        self.log_scale = torch.nn.Parameter(torch.tensor(1.2))
        self.bias = torch.nn.Parameter(torch.tensor(-1.0))

    def forward(self, x1: Tensor, x2: Tensor, labels: Tensor) -> Tensor:
        rows = self.first(x1), self.second(x2)
        return self.loss(*rows, labels, self.log_scale.exp(), self.bias)


@dataclass(frozen=True)
class Head:
    """A loss of rows a, rows b, labels, a scale and a bias; and its definition."""

    call: Callable[..., Tensor]
    reference: Callable[..., Tensor]
    settings: dict[str, Any] = field(default_factory=dict)
    tolerance: float = 1e-6

    def __call__(self, *tensors: Any, **where: Any) -> Tensor:
        return self.call(*tensors, **self.settings, **where)

    def definition(self, *tensors: Any) -> Tensor:
        return self.reference(*tensors, **self.settings)

    @property
    def exchanges(self) -> tuple[str, ...]:
        return ("gather",) if self.settings.get("with_ids") else ("gather", "ring")

    @property
    def reduction(self) -> str:
        return self.settings.get("reduction", "mean")


def by_temperature(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: both views, the scale."""
    return lambda a, b, labels, scale, bias, **settings: loss(a, b, 1.0 / scale, **settings)


def by_label(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: the sum of the views, so that both get a gradient, labels and the scale."""
    return lambda a, b, labels, scale, bias, **settings: loss(
        a + b, labels, 1.0 / scale, **settings
    )


def retrieval(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: all; the negatives are made of the first view."""

    def call(a, b, labels, scale, bias, *, with_bias=False, with_ids=False, **settings):
        if with_bias:
            settings["bias"] = bias * torch.cat([b, a]).detach().square().mean(1)
        if with_ids:
            settings["ids"], settings["negative_ids"] = labels, labels + 1
        return loss(a, b, a.tanh(), temperature=1.0 / scale, **settings)

    return call


def in_batch(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: all but the bias."""
    return lambda a, b, labels, scale, bias, with_ids=False, **settings: loss(
        a, b, temperature=1.0 / scale, **({"ids": labels} if with_ids else {}), **settings
    )


def queue(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: both views against negatives that are the same on every rank."""
    keys = torch.randn(7, WIDTH, generator=torch.Generator().manual_seed(9))
    return lambda a, b, labels, scale, bias, **settings: loss(
        a, b, keys.to(a.dtype), temperature=1.0 / scale, **settings
    )


def own_negatives(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Used: all but the bias; each row has three negatives of its own."""

    def call(a, b, labels, scale, bias, **settings):
        factors = torch.tensor([0.3, -0.5, 1.1], dtype=a.dtype)[:, None]
        negatives = (a[:, None] * factors).tanh() + b.flip(1)[:, None]
        return loss(a, b, negatives, temperature=1.0 / scale, **settings)

    return call


def by_pair(loss: Callable[..., Tensor], factor: float = 1.0) -> Callable[..., Tensor]:
    """Used: all but the labels."""
    return lambda a, b, labels, scale, bias, **settings: loss(
        a, b, factor * scale, logit_bias=bias, **settings
    )


HEADS = {
    "nt_xent": Head(by_temperature(sslkernels.nt_xent), by_temperature(nt_xent.reference)),
    "clip": Head(by_pair(sslkernels.clip_loss), by_pair(clip.reference)),
    "clip not normalised": Head(
        by_pair(sslkernels.clip_loss, 0.2),
        by_pair(clip.reference, 0.2),
        {"normalize": False},
        tolerance=3e-6,  # one process in float32 is 1.4e-6 away itself: a bias hardly counts
    ),
    "siglip": Head(by_pair(sslkernels.siglip_loss), by_pair(siglip.reference)),
    **{
        f"supcon {reduction}": Head(
            by_label(sslkernels.supcon), by_label(supcon.reference), {"reduction": reduction}
        )
        for reduction in ("mean", "sum", "none")
    },
}

for name, use, settings in (
    ("in batch", in_batch, {}),
    ("in batch none", in_batch, {"reduction": "none"}),
    ("in batch with ids", in_batch, {"with_ids": True}),
    ("negatives", retrieval, {"in_batch": True, "with_bias": True}),
    ("negatives sum", retrieval, {"in_batch": True, "reduction": "sum"}),
    (
        "negatives with ids",
        retrieval,
        {"in_batch": True, "with_bias": True, "with_ids": True},
    ),
    ("queue", queue, {}),
    ("hard", in_batch, {"beta": 0.7}),
    ("hard and debiased", retrieval, {"in_batch": True, "beta": 0.5, "tau_plus": 0.05}),
    ("own negatives", own_negatives, {"in_batch": True}),
):
    # The gradient of the scale is a difference, with beta down to 1 / 40 of its parts: there one
    # process in float32 is 3.3e-6 away. With a few rows against other negatives eager PyTorch in
    # float32 is up to 1.8e-6 away.
    tolerance = 2e-5 if "beta" in settings else 3e-6 if use is retrieval else 1e-6
    HEADS[f"info_nce {name}"] = Head(
        use(sslkernels.info_nce), use(info_nce.reference), settings, tolerance
    )

SHARES = {
    "even": lambda rank: 6,
    "uneven": lambda rank: 5 + 3 * rank,
    "one without rows": lambda rank: 0 if rank == 1 else 7 + rank,
}


def inputs(rank: int, rows: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two views, and labels of which some occur once, and some on several ranks.

    The views are alike: else the gradient of the scale is a small difference of large numbers.
    """
    generator = torch.Generator().manual_seed(rank)
    x1, noise = torch.randn(2, rows, FEATURES, generator=generator).unbind()
    x2 = x1 + 0.7 * noise
    labels = torch.arange(rows) % 4
    labels[: min(rows, 2)] = 100 + rank * torch.arange(2)[: min(rows, 2)]
    return x1, x2, labels


def joint_inputs(world: int, shares: str) -> list[Tensor]:
    parts = [inputs(rank, SHARES[shares](rank)) for rank in range(world)]
    return [torch.cat(tensors) for tensors in zip(*parts, strict=True)]


def upstream(rank: int, rows: int) -> Tensor:
    """Upstream gradients for reduction "none"."""
    return torch.linspace(0.5, 1.5 + rank, rows)


def joint(head: Head, world: int, shares: str) -> tuple[Tensor, list[Tensor]]:
    """One process with the joint batch, by the definition, in float64: loss and gradients."""
    model = Model(head.definition).double()
    x1, x2, labels = joint_inputs(world, shares)
    loss = model(x1.double(), x2.double(), labels)
    weight = torch.ones(())
    if loss.dim():
        weight = torch.cat([upstream(rank, SHARES[shares](rank)) for rank in range(world)])
    (loss * weight).sum().backward()
    return loss.detach(), gradients(model)


def gradients(model: torch.nn.Module) -> list[Tensor]:
    return [torch.zeros(()) if p.grad is None else p.grad for p in model.parameters()]


def error(actual: Tensor, expected: Tensor) -> float:
    """Relative to the largest element; absolute where the definition is 0 but for its rounding."""
    largest = float(expected.abs().max())
    return float((actual.double() - expected).abs().max()) / (largest if largest > 1e-12 else 1.0)
