"""The options that the commands share, and how an error looks to who typed one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sslkernels.train.errors import TrainError
from sslkernels.train.images import SOURCES
from sslkernels.train.text.corpus import STDLIB, SUFFIXES
from sslkernels.train.views import Augment


class Loss(str, Enum):
    fused = "fused"
    eager = "eager"


class Precision(str, Enum):
    float64 = "float64"
    float32 = "float32"
    bf16 = "bf16"


# Of all methods.
Epochs = Annotated[int, typer.Option(help="Passes over the training data.")]
BatchSize = Annotated[int, typer.Option(help="Examples per step.")]
LearningRate = Annotated[float, typer.Option(help="Peak learning rate of AdamW.")]
Seed = Annotated[int, typer.Option(help="Decides weights, data order and all that is drawn.")]
LossOption = Annotated[Loss, typer.Option(help="eager: the dense definition.")]
PrecisionOption = Annotated[
    Precision, typer.Option(help="float64: for comparisons; bf16: autocast.")
]
Threads = Annotated[int | None, typer.Option(help="CPU threads; without it, torch's choice.")]
Out = Annotated[Path, typer.Option(help="Folder for checkpoint and logs.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")]

# Of methods that learn from images.
ImageData = Annotated[
    str,
    typer.Option(
        help=f"{', '.join(sorted(SOURCES))}, or a folder of IDX files named as those of MNIST."
    ),
]
Count = Annotated[
    int | None, typer.Option("--images", help="Train on the first so many; without it, on all.")
]
AugmentOption = Annotated[
    Augment, typer.Option(help="torchvision: the same by its transforms, to compare with.")
]

# Of methods that learn from text.
TextData = Annotated[
    str,
    typer.Option(
        help=f"A folder of {', '.join(SUFFIXES)} files, or {STDLIB}: the sources of Python's "
        "standard library."
    ),
]
Megabytes = Annotated[float, typer.Option(help="Of more text than this, a sample is read.")]
VocabSize = Annotated[int, typer.Option(help="Tokens, found by byte-pair encoding.")]
Length = Annotated[int, typer.Option(help="Tokens of an example.")]
Width = Annotated[int, typer.Option(help="Features of a token.")]
Layers = Annotated[int, typer.Option(help="Transformer blocks.")]


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
