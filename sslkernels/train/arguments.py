"""Options of methods: how the command line shows them, and what they may be."""

from __future__ import annotations

import math
from enum import Enum
from typing import Annotated

import typer

from sslkernels.train.errors import TrainError

TINY = 2.0**-126
"""The least that float32 holds in full."""


class Loss(str, Enum):
    """Which implementation of a loss."""

    fused = "fused"
    eager = "eager"


class Encoder(str, Enum):
    """Which network of convolutions, see `models`."""

    convnet = "convnet"
    resnet = "resnet"
    strided_resnet = "strided-resnet"


EncoderOption = Annotated[
    Encoder,
    typer.Option(help="convnet: three layers; resnet: eight; strided-resnet: at half the size."),
]
Width = Annotated[
    int | None,
    typer.Option(
        help="Channels of the encoder's first layer; without it 32 of a convnet, 16 else."
    ),
]
LossOption = Annotated[Loss, typer.Option(help="eager: the dense definition.")]
Temperature = Annotated[float, typer.Option(help="Temperature of the loss.")]
Momentum = Annotated[
    float, typer.Option(help="Of the teacher, a moving average; in long runs 0.99 and more.")
]
QueueSize = Annotated[int, typer.Option(help="Keys of past batches that are kept.")]


def positive(name: str, value: float) -> float:
    """Raises TrainError unless the value and its reciprocal are positive and finite in float32."""
    if not (math.isfinite(value) and value > 0):
        raise TrainError(f"{name} is {value}, must be positive and finite")
    if not TINY <= value <= 1 / TINY:
        raise TrainError(f"{name} is {value}, must lie in [{TINY:.3g}, {1 / TINY:.3g}]")
    return value


def share(name: str, value: float) -> float:
    """Raises TrainError unless 0 <= value <= 1."""
    if not 0 <= value <= 1:
        raise TrainError(f"{name} is {value}, must be in 0..1")
    return value


def at_least(name: str, value: int, lowest: int) -> int:
    """Raises TrainError if the value is below the lowest."""
    if value < lowest:
        raise TrainError(f"{name} is {value}, must be at least {lowest}")
    return value
