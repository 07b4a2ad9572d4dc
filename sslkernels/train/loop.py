"""The loop that all methods share: order the data, step, log, save."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import nn

from sslkernels.train import checkpoint
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.data import Batch, Examples, batches, moved
from sslkernels.train.errors import DivergedError, TrainError
from sslkernels.train.logging import RunLog, Step
from sslkernels.train.methods import Method

CHECKPOINT = "checkpoint.pt"
WEIGHT_DECAY = 1e-4
WARMUP = 0.1  # fraction of all steps


@dataclass(frozen=True)
class Settings:
    """All that decides a run's curve. Kept in the checkpoint; to resume, it must be the same.

    Raises:
        TrainError: a value that no run can have, named.
    """

    method: str
    data: str
    epochs: int
    batch_size: int
    lr: float
    seed: int
    precision: str = "float32"  # or float64, or bf16: the forward under autocast
    options: dict[str, Any] = field(default_factory=dict)  # the method's own

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise TrainError(f"epochs is {self.epochs}, must be at least 1")
        if self.batch_size < 2:
            raise TrainError(f"batch size is {self.batch_size}, must be at least 2")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainError(f"learning rate is {self.lr}, must be positive and finite")
        if not 0 <= self.seed < 2**63:
            raise TrainError(f"seed is {self.seed}, must be in 0..2**63 - 1")

    def flat(self) -> dict[str, Any]:
        """All settings by name, the method's own among them."""
        flat = asdict(self)
        options = flat.pop("options")
        return flat | options


def warmup_cosine(step: int, total: int) -> float:
    """Factor of the learning rate at `step` of 0..total-1: linear up, then a cosine to zero."""
    warmup = max(1, int(WARMUP * total))
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


def fit(
    method: Method[Batch],
    data: Examples[Batch],
    settings: Settings,
    *,
    out: Path,
    console: Console,
    resume: bool = False,
    files: Mapping[str, str] | None = None,
) -> None:
    """Train in place, on the device where the method is; write checkpoint and logs into `out`.
    The method takes the dtype of the settings' precision.

    Args:
        method: what to train; to resume, it must be built as in the first part of the run.
        data: all of the training data.
        files: what the checkpoint is useless without, say a tokenizer: contents by name, written
            into `out` when a run starts.

    Raises:
        TrainError: fewer examples than a batch; `out` or the checkpoint cannot be used.
        DivergedError: the loss or its gradient is not finite; the last checkpoint is kept.
    """
    if settings.batch_size > len(data):
        raise TrainError(
            f"batch size is {settings.batch_size}, but there are {len(data)} training {data.unit}"
        )
    # All of it moves to float64 when that is asked for; bf16 keeps float32 weights and images.
    dtype = torch.float64 if settings.precision == "float64" else torch.float32
    device = next(method.parameters()).device
    method.to(dtype).train()
    steps_per_epoch = len(data) // settings.batch_size
    total = settings.epochs * steps_per_epoch
    optimizer = torch.optim.AdamW(method.parameters(), lr=settings.lr, weight_decay=WEIGHT_DECAY)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda s: warmup_cosine(s, total))
    # Of its own: nothing else that draws can change the data order.
    generator = torch.Generator().manual_seed(settings.seed)
    path = out / CHECKPOINT
    epoch = step = 0

    if resume:
        state = checkpoint.load(path, settings.flat())
        method.load_state_dict(state.model)
        optimizer.load_state_dict(state.optimizer)
        scheduler.load_state_dict(state.scheduler)
        generator.set_state(state.generator)
        torch.set_rng_state(state.torch_rng)
        epoch, step = state.epoch, state.step

    def save() -> None:
        state = Checkpoint(
            settings=settings.flat(),
            epoch=epoch,
            step=step,
            model=method.state_dict(),
            optimizer=optimizer.state_dict(),
            scheduler=scheduler.state_dict(),
            generator=generator.get_state(),
            torch_rng=torch.get_rng_state(),
        )
        checkpoint.save(path, state)

    try:
        log = RunLog(out, console=console, total=total, done=step, unit=data.unit)
        if not resume:
            for name, content in (files or {}).items():
                (out / name).write_text(content, encoding="utf-8")
    except OSError as error:
        raise TrainError(f"cannot write to {out}: {error.strerror}") from error
    with log:
        if not resume:
            save()  # so that the checkpoint here is this run's from the start
        while epoch < settings.epochs:
            start = time.perf_counter()
            for index in batches(len(data), settings.batch_size, generator):
                batch = moved(data.batch(index, epoch), device, dtype)
                with torch.autocast(
                    device.type, torch.bfloat16, enabled=settings.precision == "bf16"
                ):
                    loss = method(batch)
                optimizer.zero_grad()
                loss.backward()
                grad_norm = nn.utils.get_total_norm(
                    [p.grad for p in method.parameters() if p.grad is not None]
                )
                step += 1
                # Before the weights are touched: they stay good.
                if not (loss.isfinite() and grad_norm.isfinite()):
                    raise DivergedError(
                        f"step {step} (epoch {epoch + 1}): loss {loss.item()}, gradient norm "
                        f"{grad_norm.item()}; the last good checkpoint is {path}"
                    )
                lr = float(scheduler.get_last_lr()[0])
                optimizer.step()
                scheduler.step()
                now = time.perf_counter()
                rate, start = len(index) / (now - start), now
                log.step(Step(step, epoch + 1, loss.item(), lr, grad_norm.item(), rate))
            epoch += 1
            save()
