"""The command line: `python -m sslkernels train METHOD --data NAME`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from sslkernels.train import tasks
from sslkernels.train.loop import Settings
from sslkernels.train.options import (
    AugmentOption,
    BatchSize,
    Count,
    Epochs,
    ImageData,
    Layers,
    LearningRate,
    Length,
    Loss,
    LossOption,
    Megabytes,
    Out,
    Precision,
    PrecisionOption,
    Resume,
    Seed,
    TextData,
    Threads,
    VocabSize,
    Width,
    one_line_errors,
)
from sslkernels.train.run import pretrain
from sslkernels.train.text import tokens
from sslkernels.train.text.corpus import STDLIB
from sslkernels.train.transformer import Size
from sslkernels.train.views import Augment

app = typer.Typer(no_args_is_help=True, help="Train a reference system on data at hand.")


@app.command()
def simclr(
    data: ImageData = "digits",
    images: Count = None,
    augment: AugmentOption = Augment.sslkernels,
    epochs: Epochs = 100,
    batch_size: BatchSize = 256,
    temperature: Annotated[float, typer.Option(help="Temperature of the loss.")] = 0.2,
    lr: LearningRate = 2e-3,
    seed: Seed = 0,
    loss: LossOption = Loss.fused,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    out: Out = Path("runs/simclr"),
    resume: Resume = False,
) -> None:
    """SimCLR (arXiv 2002.05709): two views of an image find each other among a batch."""
    with one_line_errors():
        options = {"temperature": temperature, "loss": loss.value, "augment": augment.value}
        settings = Settings("simclr", data, epochs, batch_size, lr, seed, precision.value, options)
        pretrain(
            settings,
            lambda: tasks.simclr(
                data, images, temperature=temperature, loss=loss.value, seed=seed, augment=augment
            ),
            out=out,
            resume=resume,
            threads=threads,
        )


@app.command()
def bert(
    data: TextData = STDLIB,
    megabytes: Megabytes = 4.0,
    vocab_size: VocabSize = 2048,
    length: Length = 64,
    width: Width = 128,
    layers: Layers = 2,
    epochs: Epochs = 4,
    batch_size: BatchSize = 32,
    lr: LearningRate = 1e-3,
    seed: Seed = 0,
    loss: LossOption = Loss.fused,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    out: Out = Path("runs/bert"),
    resume: Resume = False,
) -> None:
    """BERT (arXiv 1810.04805): guess masked tokens, and whether one segment follows another."""
    with one_line_errors():
        size = Size(length, width, layers)
        options = {**vars(size), "vocab_size": vocab_size, "loss": loss.value}
        settings = Settings("bert", data, epochs, batch_size, lr, seed, precision.value, options)
        pretrain(
            settings,
            lambda: tasks.bert(
                tokens.load(data, megabytes, vocab_size, resume_from=out if resume else None),
                size,
                seed=seed,
                loss=loss.value,
            ),
            out=out,
            resume=resume,
            threads=threads,
        )


@app.command()
def gpt(
    data: TextData = STDLIB,
    megabytes: Megabytes = 4.0,
    vocab_size: VocabSize = 2048,
    length: Length = 64,
    width: Width = 128,
    layers: Layers = 2,
    epochs: Epochs = 3,
    batch_size: BatchSize = 32,
    lr: LearningRate = 1e-3,
    seed: Seed = 0,
    loss: LossOption = Loss.fused,
    precision: PrecisionOption = Precision.float32,
    threads: Threads = None,
    out: Out = Path("runs/gpt"),
    resume: Resume = False,
) -> None:
    """GPT (Radford et al., 2018): guess each token from those before it."""
    with one_line_errors():
        size = Size(length, width, layers)
        options = {**vars(size), "vocab_size": vocab_size, "loss": loss.value}
        settings = Settings("gpt", data, epochs, batch_size, lr, seed, precision.value, options)
        pretrain(
            settings,
            lambda: tasks.gpt(
                tokens.load(data, megabytes, vocab_size, resume_from=out if resume else None),
                size,
                loss=loss.value,
            ),
            out=out,
            resume=resume,
            threads=threads,
        )
