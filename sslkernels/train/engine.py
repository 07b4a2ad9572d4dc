"""Devices and processes, through Hugging Face `accelerate`, and how a batch gets its gradients.

Its checkpoints are not used: a folder of pickles is neither replaced in one go nor safe to read.
"""

from __future__ import annotations

from contextlib import nullcontext
from datetime import timedelta
from typing import Any, Generic

import torch
from torch import Tensor, nn

import sslkernels
from sslkernels.train.data import Batch, Examples, moved
from sslkernels.train.errors import TrainError, require
from sslkernels.train.methods import Contrastive, Method
from sslkernels.train.settings import Settings

# How long a process waits for the others; they all wait while the first one measures.
PATIENCE = timedelta(minutes=10)


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

    def backward(self, data: Examples[Batch], index: Tensor, epoch: int, turn: str) -> Tensor:
        """Add the gradients of examples `index`; the loss, 0-dim, the mean over the processes."""
        share = index.chunk(self.accelerator.num_processes)[self.accelerator.process_index]
        parts = [
            moved(data.batch(part, epoch), self.device, self.dtype)
            for part in share.chunk(self.settings.accumulate)
        ]
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


def accelerator(*, unused: bool = False) -> Any:
    """This process's place among all: device, rank, and how many there are.

    unused: each loss leaves out some of the weights.
    """
    module = require("accelerate", "accelerate")
    handlers = [
        module.DistributedDataParallelKwargs(find_unused_parameters=unused),
        module.InitProcessGroupKwargs(timeout=PATIENCE),
    ]
    # Unless told, it takes several processes without a GPU for so many runs of one.
    cpu = not torch.accelerator.is_available()
    return module.Accelerator(cpu=cpu, mixed_precision="no", kwargs_handlers=handlers)
