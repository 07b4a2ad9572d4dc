"""The command line: `python -m sslkernels` checks the installation, `... train` trains."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.console import Console

app = typer.Typer(add_completion=False)

Require = Annotated[
    list[str] | None,
    typer.Option(help="Fail unless this backend can run here, say cpu. May be repeated."),
]


@app.callback(invoke_without_command=True)
def selfcheck(context: typer.Context, require: Require = None) -> None:
    """Fused kernels for self-supervised learning.

    Without a command: show what runs on this machine and check its results against float64.
    The exit code is 1 when a check fails.
    """
    if context.invoked_subcommand is not None:
        return
    from sslkernels.selfcheck.report import run

    try:
        passed = run(Console(), require or [])
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    raise typer.Exit(0 if passed else 1)


@app.command(
    context_settings={
        "allow_extra_args": True,
        "ignore_unknown_options": True,
        "help_option_names": [],
    }
)
def train(context: typer.Context) -> None:
    """Train a reference system on data at hand: `train --help`."""
    # Imported here, so that a self-check needs nothing of it.
    from sslkernels.train.cli import app as train_app

    train_app(args=context.args, prog_name="sslkernels train")


if __name__ == "__main__":
    app(prog_name="python -m sslkernels")
