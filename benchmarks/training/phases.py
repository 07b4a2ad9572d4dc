"""Where the time of a training step goes."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor

DATA, ENCODER, LOSS, OPTIMIZER = "data", "encoder", "loss", "optimiser"
PHASES = (DATA, ENCODER, LOSS, OPTIMIZER)


class Clock:
    """Seconds in each phase. On a CPU, where a call returns when its work is done."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        """Count the time of the block."""
        start = time.perf_counter()
        yield
        self.seconds[name] += time.perf_counter() - start


def step(
    clock: Clock,
    optimizer: torch.optim.Optimizer,
    encode: Callable[[], Sequence[Tensor]],
    loss: Callable[..., Tensor],
) -> None:
    """One step of training. The loss gets the encoder's outputs cut off from their graph, and its
    gradients go on into the encoder from there: the same step, with a seam to measure at."""
    with clock.phase(ENCODER):
        optimizer.zero_grad()
        outputs = encode()
    leaves = [x.detach().requires_grad_(x.requires_grad) for x in outputs]
    with clock.phase(LOSS):
        loss(*leaves).backward()
    with clock.phase(ENCODER):
        told = [(x, y.grad) for x, y in zip(outputs, leaves, strict=True) if y.grad is not None]
        torch.autograd.backward([x for x, _ in told], [gradient for _, gradient in told])
    with clock.phase(OPTIMIZER):
        optimizer.step()
