"""The commands about training. What needs the trainer's packages is imported when one is called."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks.errors import InputError, one_line_errors
from benchmarks.results import write_atomically

TRAINING = Path("benchmark-results") / "training.json"
REACHED = Path("benchmark-results") / "reached.md"


def add_to(app: typer.Typer, screen: Console) -> None:
    """Add them to a command line that shows its results there."""

    @app.command()
    @one_line_errors
    def training(
        method: Annotated[
            str,
            typer.Argument(
                help="simclr or bert, against scripts of other packages; or any other method of "
                "`sslkernels train`, against itself with dense losses and torchvision's views."
            ),
        ],
        data: Annotated[
            str | None,
            typer.Option(help="As of `sslkernels train`; for simclr Fashion-MNIST when left out."),
        ] = None,
        batch_size: Annotated[
            int | None,
            typer.Option(help="Examples; 512 (simclr), 32 (bert), the method's when left out."),
        ] = None,
        workers: Annotated[int, typer.Option(help="Of the DataLoader of simclr's rivals.")] = 2,
        width: Annotated[
            int | None, typer.Option(help="Of simclr's encoder, as of `sslkernels train`.")
        ] = None,
        precision: Annotated[str, typer.Option(help="float32, or bf16 by autocast.")] = "float32",
        teacher: Annotated[
            Path | None, typer.Option(help="As of `sslkernels train distil`, of that alone.")
        ] = None,
        steps: Annotated[int, typer.Option(help="Of each script in a round.")] = 8,
        rounds: Annotated[int, typer.Option(help="After one that does not count.")] = 5,
        threads: Annotated[
            int | None, typer.Option(help="CPU threads; as many as torch uses.")
        ] = None,
        out: Annotated[Path, typer.Option(help="Results; the page lies beside.")] = TRAINING,
    ) -> None:
        """Measure whole training steps against scripts that a careful user would write."""
        try:
            from benchmarks.training import command
        except ModuleNotFoundError as error:
            raise _missing(error) from None

        table = command.run(
            method,
            data,
            batch=batch_size,
            workers=workers,
            width=width,
            precision=precision,
            teacher=teacher,
            steps=steps,
            rounds=rounds,
            threads=threads,
            out=out,
            report=lambda line: print(line, file=sys.stderr),
        )
        screen.print(table)
        screen.print(f"results: {out}, {out.with_suffix('.md')}", highlight=False, soft_wrap=True)

    @app.command()
    @one_line_errors
    def reached(
        ours: Annotated[
            list[Path], typer.Argument(help="Folders of `sslkernels train`, a seed each.")
        ],
        against: Annotated[
            list[Path], typer.Option(help="Folder of a rival's run; repeat for more.")
        ],
        measure: Annotated[str, typer.Option(help="Of those in measures.csv.")] = "kNN",
        out: Annotated[Path, typer.Option(help="Page.")] = REACHED,
    ) -> None:
        """Show when runs of the trainer were as good as a rival's runs, by their own logs."""
        try:
            from benchmarks.training import reached as reaching
        except ModuleNotFoundError as error:
            raise _missing(error) from None

        found = reaching.rows(reaching.curve(ours, measure), reaching.curve(against, measure))
        write_atomically(out, reaching.page(measure, found))
        screen.print(reaching.table(measure, found))
        screen.print(f"results: {out}", highlight=False, soft_wrap=True)


def _missing(error: ModuleNotFoundError) -> InputError:
    return InputError(f"{error.name} is not installed: pip install -e '.[bench]'")
