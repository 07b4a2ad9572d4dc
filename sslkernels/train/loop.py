"""The loop that all methods share: order the data, step, log, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic

import torch
from rich.console import Console
from torch import Tensor, nn

from sslkernels.random_state import RandomState
from sslkernels.train import checkpoint, optimizers
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.data import Batch, Examples, batches
from sslkernels.train.engine import Engine
from sslkernels.train.errors import DivergedError, TrainError
from sslkernels.train.logging import RunLog, Step
from sslkernels.train.methods import Method
from sslkernels.train.report import VIEWS
from sslkernels.train.settings import Settings

CHECKPOINT = "checkpoint.pt"
SAVE_SECONDS = 120  # a kill loses no more than about this


@dataclass(frozen=True)
class Manner:
    """How a run goes that does not decide its curve.

    watch: what is measured while it trains, by name, after every `watch_every` epochs and at the
    end; files: what the checkpoint is useless without, say a tokenizer: contents by name, written
    into the run's folder when it starts; show: draws what the method is shown into a PNG there.
    """

    compiled: bool = False
    channels_last: bool = False
    watch: Callable[[], Mapping[str, float]] | None = None
    watch_every: int = 10
    files: Mapping[str, str] = field(default_factory=dict)
    show: Callable[[Path], None] | None = None


class Trainer(Generic[Batch]):
    """A method with its optimizers and their schedules, at some step."""

    def __init__(self, engine: Engine[Batch], settings: Settings, total: int) -> None:
        self.engine, self.method, self.settings, self.total = engine, engine.method, settings, total
        self.step = 0
        self.optimizers = {
            turn: optimizers.make(
                settings.optimizer,
                self.method.trained(turn),
                lr=settings.lr,
                weight_decay=settings.weight_decay,
                betas=self.method.betas,
            )
            for turn in self.method.turns
        }
        self.schedulers = {
            turn: torch.optim.lr_scheduler.LambdaLR(
                optimizer, lambda s: optimizers.warmup_cosine(s, total, settings.warmup)
            )
            for turn, optimizer in self.optimizers.items()
        }

    def take_step(self, data: Examples[Batch], index: Tensor, epoch: int) -> tuple[float, float]:
        """Every turn of one batch; loss and gradient norm, each the sum over the turns.

        Raises:
            DivergedError: one of them is not finite; the turn's weights are not touched.
        """
        self.step += 1
        loss = norm = 0.0
        for turn, optimizer in self.optimizers.items():
            self.method.zero_grad()
            turn_loss = self.engine.backward(data, index, epoch, turn).item()
            gradients = [p.grad for p in self.method.trained(turn) if p.grad is not None]
            turn_norm = nn.utils.get_total_norm(gradients).item()
            loss, norm = loss + turn_loss, norm + turn_norm
            if not torch.tensor([turn_loss, turn_norm]).isfinite().all():
                raise DivergedError(
                    f"step {self.step} (epoch {epoch + 1}): loss {turn_loss}, gradient norm "
                    f"{turn_norm}"
                )
            optimizer.step()
        for scheduler in self.schedulers.values():
            scheduler.step()
        self.method.after_step(self.step / self.total)
        return loss, norm

    @property
    def lr(self) -> float:
        return float(next(iter(self.schedulers.values())).get_last_lr()[0])

    def save(self, path: Path) -> None:
        random = RandomState.now()
        state = Checkpoint(
            settings=self.settings.flat(),
            step=self.step,
            model=self.method.state_dict(),
            optimizers={turn: x.state_dict() for turn, x in self.optimizers.items()},
            schedulers={turn: x.state_dict() for turn, x in self.schedulers.items()},
            rng=[random.cpu, *random.accelerator],
        )
        checkpoint.save(path, state)

    def load(self, path: Path) -> None:
        state = checkpoint.load(path, self.settings.flat())
        self.method.load_state_dict(state.model)
        for turn in self.method.turns:
            self.optimizers[turn].load_state_dict(state.optimizers[turn])
            self.schedulers[turn].load_state_dict(state.schedulers[turn])
        RandomState(state.rng[0], tuple(state.rng[1:])).restore()
        self.step = state.step


def fit(
    method: Method[Batch],
    data: Examples[Batch],
    settings: Settings,
    *,
    out: Path,
    console: Console,
    resume: bool = False,
    manner: Manner | None = None,
) -> None:
    """Train in place; write checkpoint and logs into `out`. The method takes the dtype of the
    settings' precision, and the device that `accelerate` chooses.

    Args:
        method: what to train; to resume, it must be built as in the first part of the run.
        data: all of the training data.

    Raises:
        TrainError: fewer examples than a batch; `out` or the checkpoint cannot be used; another
            process of the run has died.
        DivergedError: the loss or its gradient is not finite; the last checkpoint is kept.
    """
    manner = manner or Manner()
    if settings.batch_size > len(data):
        raise TrainError(
            f"batch size is {settings.batch_size}, but there are {len(data)} training {data.unit}"
        )
    engine = Engine(method, settings, compiled=manner.compiled, channels_last=manner.channels_last)
    per_epoch = len(data) // settings.batch_size
    trainer = Trainer(engine, settings, settings.epochs * per_epoch)
    path = out / CHECKPOINT
    if resume:
        trainer.load(path)
    if not engine.main:
        _train(trainer, data, manner, path, None)
        return
    try:
        log = RunLog(out, console=console, total=trainer.total, done=trainer.step, unit=data.unit)
        if not resume:
            for name, content in manner.files.items():
                (out / name).write_text(content, encoding="utf-8")
            if manner.show is not None:
                manner.show(out / VIEWS)
    except OSError as error:
        raise TrainError(f"cannot write to {out}: {error.strerror}") from error
    with log:
        if not resume:
            trainer.save(path)  # so that the checkpoint here is this run's from the start
        try:
            _train(trainer, data, manner, path, log)
        except OSError as error:
            raise TrainError(
                f"step {trainer.step}: cannot write to {out}: {error.strerror}; the last good "
                f"checkpoint is {path}"
            ) from error


def _train(
    trainer: Trainer[Batch], data: Examples[Batch], manner: Manner, path: Path, log: RunLog | None
) -> None:
    """From the trainer's step to the last; a process without a log neither writes nor measures."""
    settings = trainer.settings
    per_epoch = len(data) // settings.batch_size
    saved = time.monotonic()
    for epoch in range(trainer.step // per_epoch, settings.epochs):
        start = time.perf_counter()
        done = trainer.step - epoch * per_epoch
        order = list(batches(len(data), settings.batch_size, settings.seed, epoch))
        for index in order[done:]:
            lr = trainer.lr
            try:
                loss, norm = trainer.take_step(data, index, epoch)
            except DivergedError as error:
                raise DivergedError(f"{error}; the last good checkpoint is {path}") from None
            except RuntimeError as error:
                raise _lost(error, trainer, path) from error
            now = time.perf_counter()
            rate, start = len(index) / (now - start), now
            if log is not None:
                log.step(Step(trainer.step, epoch + 1, loss, lr, norm, rate))
                if time.monotonic() - saved > SAVE_SECONDS:
                    trainer.save(path)
                    saved = time.monotonic()
        if log is None:
            continue
        trainer.save(path)
        saved = time.monotonic()
        last = epoch + 1 == settings.epochs
        if manner.watch is not None and (last or (epoch + 1) % manner.watch_every == 0):
            log.measured(trainer.step, epoch + 1, manner.watch())


def _lost(error: RuntimeError, trainer: Trainer[Any], path: Path) -> Exception:
    """Another process that is gone, in one line; any other error as it is."""
    if trainer.engine.accelerator.num_processes == 1:
        return error
    reason = str(error).splitlines()[0]
    return TrainError(
        f"step {trainer.step}: another process of the run is gone ({reason}); the last good "
        f"checkpoint is {path}"
    )
