"""Devices and processes, through Hugging Face `accelerate`, and how a batch gets its gradients.

Its checkpoints are not used: a folder of pickles is neither replaced in one go nor safe to read.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Sequence
from contextlib import nullcontext
from datetime import timedelta
from functools import partial
from typing import Any, Generic

import torch
from torch import Tensor, nn

import sslkernels
from sslkernels.train.data import Batch, Examples, moved
from sslkernels.train.errors import TrainError, require
from sslkernels.train.methods import Contrastive, Method
from sslkernels.train.settings import Settings
from sslkernels.train.workers import mapped

MEASURING = timedelta(minutes=30)
"""How long processes wait for the first one, which measures while they do nothing."""


class Engine(Generic[Batch]):
    """A method where it trains: on this process's device, wrapped for several processes.

    A batch is cut into a share for each process, and a share into micro-batches. The gradients are
    those of the whole batch: losses that compare rows do so across processes (`Method.group`) and
    across micro-batches (`Contrastive`); all others are means, and are averaged. Batch
    normalisation alone sees less: micro-batches, and on a CPU its process's share.

    Raises:
        TrainError: `accelerate` is not installed, or batches cannot be cut into equal parts.
    """

    def __init__(
        self,
        method: Method[Batch],
        settings: Settings,
        *,
        compiled: bool = False,
        channels_last: bool = False,
    ) -> None:
        # Precision is ours: `accelerate` would keep that of a process's first run.
        self.accelerator: Any = accelerator(unused=len(method.turns) > 1)
        world = self.accelerator.num_processes
        if settings.batch_size % (world * settings.accumulate):
            raise TrainError(
                f"batch size is {settings.batch_size}, must be a multiple of the {world} processes "
                f"times {settings.accumulate} micro-batches"
            )
        self.settings = settings
        self.device: torch.device = self.accelerator.device
        # All of it moves to float64 when that is asked for; bf16 keeps float32 weights and images.
        self.dtype = torch.float64 if settings.precision == "float64" else torch.float32
        method.to(self.dtype).train()
        if channels_last:
            method.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        if world > 1:
            method.group = torch.distributed.group.WORLD
            if self.device.type == "cuda":
                nn.SyncBatchNorm.convert_sync_batchnorm(method)
        self.method = method
        if compiled:
            method.compile()  # in place: names in the state dict stay
        self.model: Any = self.accelerator.prepare(method)

    @property
    def main(self) -> bool:
        """Is this the process that writes and speaks?"""
        return self.accelerator.is_main_process

    def feed(
        self, data: Examples[Batch], order: Iterable[tuple[int, Tensor]], workers: int
    ) -> Generator[list[Batch], None, None]:
        """The micro-batches of this process's share of each batch, on its device.

        Args:
            order: of each batch the epoch, and the numbers of its examples.
            workers: processes that make batches ahead; without any, this one does.
        """
        world, rank = self.accelerator.num_processes, self.accelerator.process_index
        shares = ((epoch, index.chunk(world)[rank]) for epoch, index in order)
        plan = (
            (epoch, [part.tolist() for part in share.chunk(self.settings.accumulate)])
            for epoch, share in shares
        )
        for parts in mapped(partial(_made, data), plan, workers):
            yield [moved(part, self.device, self.dtype) for part in parts]

    def backward(self, parts: list[Batch], turn: str) -> Tensor:
        """Add the gradients of a batch's micro-batches, of all processes together; the loss, 0-dim,
        the mean over the processes."""
        with torch.autocast(
            self.device.type, torch.bfloat16, enabled=self.settings.precision == "bf16"
        ):
            if len(parts) > 1 and isinstance(self.method, Contrastive):
                ddp = () if self.model is self.method else self.model
                loss = sslkernels.accumulate(
                    lambda part: self.model(part, turn="encode"),
                    parts,
                    self.method.compare,
                    ddp=ddp,
                )
            else:
                loss = self._mean(parts, turn)
        return self.accelerator.reduce(loss.detach(), "mean")

    def _mean(self, parts: list[Batch], turn: str) -> Tensor:
        total = torch.zeros((), device=self.device, dtype=self.dtype)
        for number, part in enumerate(parts, 1):
            last = number == len(parts)
            # Gradients are averaged over the processes once, with the last part.
            with nullcontext() if last else self.accelerator.no_sync(self.model):
                loss = self.model(part, turn=turn) / len(parts)
                with torch.autocast(self.device.type, enabled=False):
                    loss.backward()
            total += loss.detach()
        return total


def _made(data: Examples[Batch], step: tuple[int, Sequence[Sequence[int]]]) -> list[Batch]:
    epoch, parts = step
    return [data.batch(torch.tensor(part), epoch) for part in parts]


def accelerator(*, unused: bool = False, patience: float = 60.0) -> Any:
    """This process's place among all: device, rank, and how many there are.

    Args:
        unused: each loss leaves out some of the weights.
        patience: seconds that a process waits for another one in a step. The first call decides.
    """
    module = require("accelerate", "accelerate")
    handlers = [
        module.DistributedDataParallelKwargs(find_unused_parameters=unused),
        module.InitProcessGroupKwargs(timeout=timedelta(seconds=patience)),
    ]
    # Unless told, it takes several processes without a GPU for so many runs of one.
    cpu = not torch.accelerator.is_available()
    return module.Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)


def await_main(place: Any, when: str) -> None:
    """Wait until the first process has come here, too, through the store of the process group: its
    collectives give up sooner than what the first process does alone may take.

    Args:
        place: what `accelerator` gave.
        when: a name that no other call of this run has.

    Raises:
        TrainError: the first process is gone, or did not come in time.
    """
    if place.num_processes == 1:
        return
    group: Any = torch.distributed.group.WORLD
    store, key = group.get_group_store(), f"sslkernels/main/{when}"
    try:
        if place.is_main_process:
            store.set(key, "")
        else:
            store.wait([key], MEASURING)
    except RuntimeError as error:
        reason = str(error).splitlines()[0]
        raise TrainError(f"the first process of the run is gone ({reason})") from error
