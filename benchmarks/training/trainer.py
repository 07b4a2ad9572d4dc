"""Any method of the trainer: its own steps, and the same with dense losses, as their definitions
compute them, and torchvision's views."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor

import sslkernels
from benchmarks.training.measure import Script
from benchmarks.training.phases import DATA, Clock, step
from sslkernels.train.engine import Engine
from sslkernels.train.loop import Trainer
from sslkernels.train.methods import Contrastive
from sslkernels.train.options import ImageOptions, Precision, RunOptions
from sslkernels.train.registry import METHODS, Entry
from sslkernels.train.run import make_settings
from sslkernels.train.views import Augment

EPOCHS = 10**6  # the schedule's: as good as no end


class OfTrainer(Script):
    """A method as `sslkernels train` runs it. What cannot be told apart from its network, a loss
    that is part of forward, counts as encoder.

    Args:
        name: as reports show it.
        entry: which method.
        options: those of its family.
        own: its own options, where they are not as by default.
        inside: what the steps run in, with the making of their batches.

    Raises:
        TrainError: the data is not there, smaller than a batch, or not what the method takes.
    """

    def __init__(
        self,
        name: str,
        entry: Entry,
        options: RunOptions,
        own: Mapping[str, Any] | None = None,
        inside: Callable[[], AbstractContextManager[Any]] = nullcontext,
    ) -> None:
        torch.manual_seed(options.seed)
        own = {key: parameter.default for key, parameter in entry.own.items()} | dict(own or {})
        task = entry.family.build(entry.method, options, own)
        settings = make_settings(entry.name, options, own)
        self.name, self.items, self.inside = name, settings.batch_size, inside
        self.half = settings.precision == Precision.bf16.value
        self.trainer: Trainer[Any] = Trainer(Engine(task.method, settings), settings, EPOCHS)
        self.batches: Iterator[list[Any]] = self.trainer.feed(task.data, workers=0)

    def run(self, steps: int, clock: Clock) -> None:
        method = self.trainer.method
        with self.inside():
            for _ in range(steps):
                with clock.phase(DATA):
                    [batch] = next(self.batches)
                for turn, optimizer in self.trainer.optimizers.items():
                    step(clock, optimizer, *self._parts(batch, turn))
                method.after_step(0.0)

    def _parts(
        self, batch: Any, turn: str
    ) -> tuple[Callable[[], Sequence[Tensor]], Callable[..., Tensor]]:
        """What encodes a batch, and what makes a loss of that."""
        method = self.trainer.method

        def autocast() -> torch.autocast:
            return torch.autocast("cpu", torch.bfloat16, enabled=self.half)

        def encode() -> Sequence[Tensor]:
            with autocast():
                if isinstance(method, Contrastive):
                    return method.encode(batch)
                return [method(batch, turn=turn)]

        def compare(*rows: Tensor) -> Tensor:
            with autocast():
                return method.compare(*rows) if isinstance(method, Contrastive) else rows[0]

        return encode, compare


def scripts(
    method: str,
    data: str | None,
    *,
    batch: int,
    precision: str,
    own: Mapping[str, Any] | None = None,
    **more: Any,
) -> list[Script]:
    """Ours and its rival; the method's own data where none is named.

    own: options of the method alone; more: of its family.
    """
    entry = METHODS[method]
    given: dict[str, Any] = dict(entry.method.defaults) | more
    given |= {"epochs": EPOCHS, "batch_size": batch}
    given |= {"precision": Precision(precision)} | ({} if data is None else {"data": data})
    options = entry.family.options(**given)
    rival = "dense losses"
    other = options
    if isinstance(options, ImageOptions):
        rival = "torchvision and dense losses"
        other = dataclasses.replace(options, augment=Augment.torchvision)

    def dense() -> AbstractContextManager[Any]:
        return sslkernels.backend("reference")

    return [
        OfTrainer("sslkernels", entry, options, own),
        OfTrainer(rival, entry, other, own, dense),
    ]
