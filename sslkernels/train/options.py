"""The options that commands share, each declared once, and how an error looks to who typed one."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from sslkernels.train.errors import TrainError
from sslkernels.train.images import SOURCES
from sslkernels.train.optimizers import OptimizerName
from sslkernels.train.pairs.table import GRAPHS, INTERACTIONS
from sslkernels.train.text.corpus import STDLIB, SUFFIXES
from sslkernels.train.trackers import Tracker
from sslkernels.train.views import Augment


class Precision(str, Enum):
    """What the numbers are."""

    float64 = "float64"
    float32 = "float32"
    bf16 = "bf16"


Strict = Annotated[
    bool, typer.Option("--strict", help="Fail on what cannot be read, rather than skip it.")
]


@dataclass(frozen=True, kw_only=True)
class RunOptions:
    """Of all methods."""

    data: str
    epochs: Annotated[int, typer.Option(help="Passes over the training data.")] = 100
    batch_size: Annotated[int, typer.Option(help="Examples per step, of all processes.")] = 256
    lr: Annotated[float, typer.Option(help="Peak learning rate.")] = 2e-3
    optimizer: Annotated[OptimizerName, typer.Option(help="Which one.")] = OptimizerName.adamw
    weight_decay: Annotated[float, typer.Option(help="Of the optimizer.")] = 1e-4
    warmup: Annotated[
        float, typer.Option(help="Share of the steps in which the learning rate rises.")
    ] = 0.1
    accumulate: Annotated[
        int,
        typer.Option(help="Micro-batches of a batch; contrastive losses still compare all of it."),
    ] = 1
    seed: Annotated[int, typer.Option(help="Decides weights, data order and all draws.")] = 0
    precision: Annotated[
        Precision, typer.Option(help="float64: for comparisons; bf16: autocast.")
    ] = Precision.float32
    compile: Annotated[bool, typer.Option("--compile", help="By torch.compile.")] = False
    channels_last: Annotated[
        bool, typer.Option("--channels-last", help="Memory format of convolutions.")
    ] = False
    watch_every: Annotated[
        int, typer.Option(help="Epochs between measurements while it trains.")
    ] = 10
    threads: Annotated[
        int | None, typer.Option(help="CPU threads; without it, torch's choice.")
    ] = None
    workers: Annotated[
        int,
        typer.Option(help="Processes that decode files and make batches ahead; 0: none, the same."),
    ] = 0
    patience: Annotated[
        float, typer.Option(help="Seconds that a process of several waits for another in a step.")
    ] = 60.0
    tracker: Annotated[
        Tracker | None, typer.Option(help="Beside TensorBoard, show the run there.")
    ] = None
    out: Annotated[
        Path | None, typer.Option(help="Folder for checkpoint and logs; runs/METHOD without it.")
    ] = None
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on from the checkpoint in --out.")
    ] = False
    smoke: Annotated[
        bool,
        typer.Option("--smoke", help="A minute at most: little data, few epochs, whatever is set."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class ImageOptions(RunOptions):
    """Of methods that learn from images."""

    data: Annotated[
        str,
        typer.Option(
            help=f"{', '.join(sorted(SOURCES))}, a folder of IDX files named as those of MNIST, or "
            "a folder of pictures, with a subfolder for each class."
        ),
    ] = "digits"
    images: Annotated[
        int | None, typer.Option(help="Train on the first so many; without it, on all.")
    ] = None
    size: Annotated[int, typer.Option(help="Side that pictures are resized to.")] = 32
    strict: Strict = False
    augment: Annotated[
        Augment, typer.Option(help="torchvision: the same by its transforms, to compare with.")
    ] = Augment.sslkernels
    flip: Annotated[
        bool,
        typer.Option("--flip", help="Mirror half of the views of grey images; not of digits."),
    ] = False


@dataclass(frozen=True, kw_only=True)
class TextOptions(RunOptions):
    """Of methods that learn from text."""

    data: Annotated[
        str,
        typer.Option(
            help=f"A folder of {', '.join(SUFFIXES)} files, or {STDLIB}: the sources of Python's "
            "standard library."
        ),
    ] = STDLIB
    strict: Strict = False
    megabytes: Annotated[float, typer.Option(help="Of more text than this, a sample is read.")] = (
        4.0
    )
    vocab_size: Annotated[int, typer.Option(help="Tokens, found by byte-pair encoding.")] = 2048
    length: Annotated[int, typer.Option(help="Tokens of an example.")] = 64
    width: Annotated[int, typer.Option(help="Features of a token.")] = 128
    layers: Annotated[int, typer.Option(help="Transformer blocks.")] = 2


@dataclass(frozen=True, kw_only=True)
class AudioOptions(RunOptions):
    """Of methods that learn from sounds."""

    data: Annotated[
        str,
        typer.Option(
            help="A folder of WAV files, with a subfolder for each class, or digits: synthetic "
            "sounds made of scikit-learn's digits."
        ),
    ] = "digits"
    strict: Strict = False


@dataclass(frozen=True, kw_only=True)
class PairOptions(RunOptions):
    """Of methods that learn from pairs."""

    data: Annotated[
        str,
        typer.Option(
            help=f"A CSV file with a header and pairs in its first two columns, or "
            f"{', '.join(sorted(INTERACTIONS))} (interactions, synthetic: the pixels that a digit "
            f"fills), or {', '.join(sorted(GRAPHS))} (a graph: the imports of Python's library)."
        ),
    ]
    strict: Strict = False


@contextmanager
def one_line_errors() -> Iterator[None]:
    """What a person can act on, without a traceback: exit code 2, or 1 when training diverged."""
    try:
        yield
    except TrainError as error:
        typer.echo(f"error: {error}", err=True)
        raise typer.Exit(error.exit_code) from None
    except KeyboardInterrupt:
        typer.echo("stopped; the same command with --resume goes on from the last save", err=True)
        raise typer.Exit(130) from None
