"""`train export` and `train prune`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from sslkernels.train.after.export import export as export_run
from sslkernels.train.after.formats import Format
from sslkernels.train.after.prune import SPARSITIES, report
from sslkernels.train.options import one_line_errors

FinishedRun = Annotated[Path, typer.Argument(help="Folder of a finished run on images.")]
Data = Annotated[
    str | None, typer.Option(help="Images to measure with; without it those of the run.")
]


def export(
    run: FinishedRun,
    to: Annotated[
        Path | None, typer.Option(help="File to write; encoder.FORMAT in the run without it.")
    ] = None,
    form: Annotated[
        Format, typer.Option("--format", help="pt2: of torch.export; onnx: by its own packages.")
    ] = Format.pt2,
    int8: Annotated[
        bool, typer.Option("--int8", help="Make linear layers int8, their input as it comes.")
    ] = False,
    data: Data = None,
) -> None:
    """Write the encoder of a finished run, or its classifier, into a file of its own."""
    with one_line_errors():
        path = to or run / f"encoder.{form.value}"
        exported = export_run(run, path, form, int8=int8, data=data)
        if int8:
            typer.echo(f"linear layers in int8: {exported.int8}")
        typer.echo(
            f"{path}: loaded again, differs from the run's by at most {exported.difference:.1e}"
        )
        if exported.accuracy is None:
            typer.echo(f"accuracy is not measured: {exported.unmeasured}")
        else:
            before, after = exported.accuracy
            typer.echo(f"{exported.measure}: the run's {before:.1%}, {path.name} {after:.1%}")


def prune(
    run: FinishedRun,
    sparsity: Annotated[
        list[float] | None,
        typer.Option(help="Share of the weights that becomes zero. May be repeated."),
    ] = None,
    data: Data = None,
) -> None:
    """Say how accuracy and loss suffer where the smallest weights of the encoder become zero."""
    with one_line_errors():
        table = Table("sparsity", title="Magnitude pruning, without training after it")
        for column in ("weights left", "kNN accuracy", "loss"):
            table.add_column(column, justify="right")
        for row in report(run, sparsity or SPARSITIES, data):
            accuracy = "-" if row.knn is None else f"{row.knn:.1%}"
            table.add_row(f"{row.sparsity:.1%}", f"{row.weights:,}", accuracy, f"{row.loss:.4f}")
        Console().print(table)


def add_to(app: typer.Typer) -> None:
    """Make them commands of the command line."""
    for command in (export, prune):
        app.command(rich_help_panel="After training")(command)
