"""The command line: `python -m sslkernels train METHOD --data NAME`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import torch
import typer
from rich.console import Console
from rich.table import Table

from sslkernels.train.data import SOURCES, Rows, load
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import Accuracy, evaluate
from sslkernels.train.logging import CSV
from sslkernels.train.loop import CHECKPOINT, Settings, fit
from sslkernels.train.methods import Method
from sslkernels.train.methods.simclr import SimCLR

app = typer.Typer(no_args_is_help=True, help="Train a reference system on data at hand.")


class Loss(str, Enum):
    fused = "fused"
    eager = "eager"


class Precision(str, Enum):
    float64 = "float64"
    float32 = "float32"
    bf16 = "bf16"


# The options that all methods share.
Data = Annotated[str, typer.Option(help="Data set: " + ", ".join(sorted(SOURCES)) + ".")]
Epochs = Annotated[int, typer.Option(help="Passes over the training images.")]
BatchSize = Annotated[int, typer.Option(help="Images per step.")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate of AdamW.")]
Seed = Annotated[int, typer.Option(help="Decides weights, data order and views.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="float64: for comparisons; bf16: autocast.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; without it, torch's choice.")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoint and logs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]


@app.callback()
def train() -> None:
    """Without this, typer would make the only method the whole command."""


@app.command()
def simclr(
    data: Data = "digits",
    epochs: Epochs = 100,
    batch_size: BatchSize = 256,
    temperature: Annotated[float, typer.Option(help="Temperature of the loss.")] = 0.2,
    lr: LearningRate = 2e-3,
    seed: Seed = 0,
    loss: Annotated[Loss, typer.Option(help="eager: the dense definition.")] = Loss.fused,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    out: Out = Path("runs/simclr-digits"),
    resume: Resume = False,
) -> None:
    """SimCLR (arXiv 2002.05709): two views of an image find each other among a batch."""

    with one_line_errors():
        settings = Settings(
            method="simclr",
            data=data,
            epochs=epochs,
            batch_size=batch_size,
            lr=lr,
            seed=seed,
            precision=precision.value,
            options={"temperature": temperature, "loss": loss.value},
        )
        pretrain(
            settings,
            lambda channels: SimCLR(channels, temperature=temperature, loss=loss.value),
            out=out,
            resume=resume,
            threads=threads,
        )


def pretrain(
    settings: Settings,
    build: Callable[[int], Method],
    *,
    out: Path,
    resume: bool,
    threads: int | None,
) -> None:
    """Evaluate, train, evaluate again and show both. `build` makes the method for images of so
    many channels."""
    console = Console()
    if threads is not None:
        if threads < 1:
            raise TrainError(f"threads is {threads}, must be at least 1")
        torch.set_num_threads(threads)
    images = load(settings.data)
    torch.manual_seed(settings.seed)
    method = build(images.train.shape[1])
    method.to("cuda" if torch.cuda.is_available() else "cpu")
    before = evaluate(method.encoder, images)
    fit(method, Rows(images.train), settings, out=out, console=console, resume=resume)
    after = evaluate(method.encoder, images)
    console.print(accuracy_table(before, after, len(images.test)))
    for line in (
        f"checkpoint  {out / CHECKPOINT}",
        f"curve       {out / CSV}",
        f"see it      tensorboard --logdir {out}",
    ):
        console.print(line, highlight=False, soft_wrap=True)


def accuracy_table(before: Accuracy, after: Accuracy, count: int) -> Table:
    table = Table(title=f"Accuracy on {count} held-out images", title_justify="left")
    for column in ("features", "untrained", "trained"):
        table.add_column(column, justify="left" if column == "features" else "right")
    table.add_row("kNN (k = 20, cosine)", f"{before.knn:.1%}", f"{after.knn:.1%}")
    table.add_row("linear probe", f"{before.linear:.1%}", f"{after.linear:.1%}")
    return table


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can act on, without a traceback: exit code 2, or 1 when training diverged."""
    try:
        yield
    except TrainError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("stopped; the same command with --resume goes on from the last epoch", err=True)
        raise typer.Exit(130) from None
