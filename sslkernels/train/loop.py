"""The loop that all methods share: order the data, step, log, save."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any, Generic

import torch
from rich.console import Console
from torch import nn

from sslkernels.random_state import RandomState
from sslkernels.train import checkpoint, optimizers, trackers
from sslkernels.train.checkpoint import Checkpoint
from sslkernels.train.data import Batch, Examples, batches, steps_per_epoch
from sslkernels.train.engine import Engine, await_main
from sslkernels.train.errors import DivergedError, TrainError
from sslkernels.train.logging import RunLog, Step
from sslkernels.train.methods import Method
from sslkernels.train.report import VIEWS
from sslkernels.train.settings import Settings
from sslkernels.train.trackers import Tracker
from sslkernels.train.workers import died

CHECKPOINT = "checkpoint.pt"
SAVE_SECONDS = 120  # a kill loses no more than about this


@dataclass(frozen=True)
class Manner:
    """How a run goes that does not decide its curve.

    workers: processes that make batches ahead; tracker: where it is shown beside TensorBoard;
    watch: what is measured while it trains, by name, after every `watch_every` epochs and at the
    end; files: what the checkpoint is useless without, say a tokenizer: contents by name, written
    into the run's folder when it starts; show: draws what the method is shown into a PNG there.
    """

    compiled: bool = False
    channels_last: bool = False
    workers: int = 0
    tracker: Tracker | None = None
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

    def feed(self, data: Examples[Batch], workers: int) -> Generator[list[Batch], None, None]:
        """What `take_step` takes, from this step to the last."""
        size, seed = self.settings.batch_size, self.settings.seed
        done, within = divmod(self.step, steps_per_epoch(data, size))
        order = (
            (epoch, index)
            for epoch in range(done, self.settings.epochs)
            for index in batches(len(data), size, seed, epoch)
        )
        return self.engine.feed(data, islice(order, within, None), workers)

    def take_step(self, parts: list[Batch], epoch: int) -> tuple[float, float]:
        """Every turn of one batch; loss and gradient norm, each the sum over the turns.

        Raises:
            DivergedError: one of them is not finite; the turn's weights are not touched.
        """
        self.step += 1
        loss = norm = 0.0
        for turn, optimizer in self.optimizers.items():
            self.method.zero_grad()
            turn_loss = self.engine.backward(parts, turn).item()
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
        TrainError: fewer examples than a batch; `out`, the checkpoint or the tracker cannot be
            used; another process of the run, or one that makes batches, has died.
        DivergedError: the loss or its gradient is not finite; the last checkpoint is kept.
    """
    manner = manner or Manner()
    total = settings.epochs * steps_per_epoch(data, settings.batch_size)
    engine = Engine(method, settings, compiled=manner.compiled, channels_last=manner.channels_last)
    trainer = Trainer(engine, settings, total)
    path = out / CHECKPOINT
    if resume:
        trainer.load(path)
    if not engine.main:
        _train(trainer, data, manner, path, None)
        return
    try:
        tracker = manner.tracker and trackers.start(
            manner.tracker, out, settings.flat(), resume=resume
        )
        log = RunLog(
            out,
            console=console,
            total=trainer.total,
            done=trainer.step,
            unit=data.unit,
            tracker=tracker,
        )
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
    await_main(trainer.engine.accelerator, "log")
    settings = trainer.settings
    per_epoch = steps_per_epoch(data, settings.batch_size)
    saved, start = time.monotonic(), time.perf_counter()
    with closing(trainer.feed(data, manner.workers)) as feed:
        for parts in feed:
            epoch, lr = trainer.step // per_epoch, trainer.lr
            try:
                loss, norm = trainer.take_step(parts, epoch)
            except DivergedError as error:
                raise DivergedError(f"{error}; the last good checkpoint is {path}") from None
            except RuntimeError as error:
                raise _lost(error, trainer, path) from error
            now = time.perf_counter()
            rate, start = settings.batch_size / (now - start), now
            ended = trainer.step % per_epoch == 0
            if log is not None:
                log.step(Step(trainer.step, epoch + 1, loss, lr, norm, rate))
                if ended or time.monotonic() - saved > SAVE_SECONDS:
                    trainer.save(path)
                    saved = time.monotonic()
            if ended:
                _measure(trainer, manner, epoch + 1, log)
                start = time.perf_counter()


def _measure(trainer: Trainer[Any], manner: Manner, epochs: int, log: RunLog | None) -> None:
    """After so many epochs, what is due then, by the process with the log; all wait for it."""
    if manner.watch is None or (epochs % manner.watch_every and epochs < trainer.settings.epochs):
        return
    if log is not None:
        log.measured(trainer.step, epochs, manner.watch())
    await_main(trainer.engine.accelerator, f"epoch {epochs}")


def _lost(error: RuntimeError, trainer: Trainer[Any], path: Path) -> Exception:
    """A worker or another process that is gone, in one line; any other error as it is."""
    death = died(error)
    if death is not None:
        return TrainError(f"step {trainer.step}: {death}; the last good checkpoint is {path}")
    if trainer.engine.accelerator.num_processes == 1:
        return error
    reason = str(error).splitlines()[0]
    return TrainError(
        f"step {trainer.step}: another process of the run is gone ({reason}); the last good "
        f"checkpoint is {path}"
    )
