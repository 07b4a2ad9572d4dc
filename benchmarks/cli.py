"""The command line: run, report, compare."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, ParamSpec, TypeVar

import torch
import typer
from rich.console import Console

from benchmarks import compare as comparing
from benchmarks import console, results, runner
from benchmarks.case import Case, check_device, check_dtype, check_precision, parse_shape
from benchmarks.errors import InputError
from benchmarks.registry import EAGER, OURS, operator, operators

FOLDER = Path("benchmark-results")
RESULTS = FOLDER / "results.json"

P = ParamSpec("P")
R = TypeVar("R")

app = typer.Typer(
    help="Measure sslkernels against what else computes the same, and report it.",
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    add_completion=False,
)
screen = Console()


def main() -> None:
    """Run the command line."""
    app(prog_name="python -m benchmarks")


@contextmanager
def _readable_errors() -> Iterator[None]:
    """One line for bad input (exit 2) and for an interruption (exit 130), no traceback."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print("interrupted: nothing was written", file=sys.stderr)
        raise typer.Exit(130) from None


def _command(function: Callable[P, R]) -> Callable[P, R]:
    @functools.wraps(function)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        with _readable_errors():
            return function(*args, **kwargs)

    return wrapped


@app.callback(invoke_without_command=True)
@_command
def default(context: typer.Context) -> None:
    """Without a command: `run --quick`, then `report`."""
    if context.invoked_subcommand is None:
        _run(chosen_cases(quick=True), quick=True, command="run --quick", out=RESULTS)
        _report([RESULTS], FOLDER)


@app.command()
@_command
def run(
    quick: Annotated[bool, typer.Option("--quick", help="Few cases, few rounds.")] = False,
    op: Annotated[list[str] | None, typer.Option(help="Operator; repeat for more.")] = None,
    shape: Annotated[
        list[str] | None, typer.Option(help="As 2048x128 (2N x D); repeat for more.")
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="bfloat16, float16, float32, float64.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Of float32: highest, high, medium.")
    ] = None,
    temperature: Annotated[
        float | None, typer.Option(help="With --shape only; 0.1 when left out.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; as many as torch uses.")] = None,
    label: Annotated[str | None, typer.Option(help="Title of the run in reports.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the results.")] = RESULTS,
) -> None:
    """Measure, and write one results file."""
    cases = chosen_cases(
        quick=quick,
        ops=op,
        shapes=shape,
        dtypes=dtype,
        precisions=precision,
        temperature=temperature,
        device=device,
        threads=threads,
    )
    if out.is_dir():
        raise InputError(f"--out: {out} is a folder, wanted a file name")
    given: list[tuple[str, object]] = [
        *(("--op", one) for one in op or []),
        *(("--shape", one) for one in shape or []),
        *(("--dtype", one) for one in dtype or []),
        *(("--precision", one) for one in precision or []),
        ("--temperature", temperature),
        ("--device", device if device != "cpu" else None),
        ("--threads", threads),
    ]
    words = ["run", *(["--quick"] if quick else [])]
    words += [f"{name} {value}" for name, value in given if value is not None]
    _run(cases, quick=quick, command=" ".join(words), out=out, label=label)


@app.command()
@_command
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Results files, one section each.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where to write the pages.")] = FOLDER,
) -> None:
    """Write report.md and report.html from results files."""
    _report(files or [RESULTS], folder)


@app.command()
@_command
def compare(
    old: Annotated[Path, typer.Argument(help="Results to compare with.")],
    new: Annotated[Path, typer.Argument(help="Results that may be slower.")],
    threshold: Annotated[float, typer.Option(help="Ratio of times that counts as slower.")] = 1.05,
    relative_to: Annotated[
        str, typer.Option(help="Baseline that both times are divided by, or clock.")
    ] = EAGER,
) -> None:
    """Exit with 1 when a case is surely slower: its whole interval lies above the threshold."""
    before, after = results.load(old), results.load(new)
    found = comparing.compare(before, after, threshold, relative_to)
    for difference in comparing.differences(before, after):
        screen.print(f"environment differs in {difference}", highlight=False, markup=False)
    screen.print(console.comparison_table(found))
    if any(one.verdict == comparing.SLOWER for one in found):
        raise typer.Exit(1)


def chosen_cases(
    *,
    quick: bool,
    ops: list[str] | None = None,
    shapes: list[str] | None = None,
    dtypes: list[str] | None = None,
    precisions: list[str] | None = None,
    temperature: float | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> list[Case]:
    """The cases that the options ask for: the operators' own grid, filtered, or given shapes.

    Raises:
        InputError: an option has a value that the suite does not know, or no case is left.
    """
    if threads is not None and threads < 1:
        raise InputError(f"--threads: must be at least 1, got {threads}")
    if temperature is not None and not shapes:
        raise InputError("--temperature: the grid has its own, give --shape as well")
    check_device(device)
    wanted_dtypes = [check_dtype(name) for name in dtypes or []]
    wanted_precisions = [check_precision(name) for name in precisions or []]
    found: list[Case] = []
    for op in [operator(name) for name in ops or operators()]:
        if shapes:
            sizes = [parse_shape(text, op.shape_names) for text in shapes]
            kinds = [
                (dtype, precision)
                for dtype in wanted_dtypes or ["bfloat16", "float32"]
                for precision in _precisions(dtype, wanted_precisions)
            ]
            found += op.cases(sizes, kinds, temperature)
        else:
            found += [
                case
                for case in op.grid(quick)
                if (not wanted_dtypes or case.dtype in wanted_dtypes)
                and (
                    not wanted_precisions
                    or case.dtype != "float32"
                    or case.precision in wanted_precisions
                )
            ]
    if not found:
        raise InputError("no case of the grid has that dtype and precision; give --shape as well")
    count = threads or torch.get_num_threads()
    return [replace(case, device=device, threads=count) for case in found]


def _precisions(dtype: str, wanted: list[str]) -> list[str]:
    return (wanted or ["highest", "high"]) if dtype == "float32" else ["highest"]


def _run(
    cases: list[Case], *, quick: bool, command: str, out: Path, label: str | None = None
) -> None:
    with console.progress(cases, quick) as advance:
        found = runner.run_all(
            cases,
            label=label or ("Quick run" if quick else "Full run"),
            command=f"python -m benchmarks {command}",
            quick=quick,
            threads=cases[0].threads,
            report=advance,
        )
    results.save(found, out)
    screen.print(console.results_table(found))
    screen.print(f"results: {out}", highlight=False, markup=False, soft_wrap=True)
    failures = [
        f"{result.case.title}: {skip.reason}"
        for result in found.cases
        for skip in result.skipped
        if skip.implementation == OURS
    ]
    if failures:
        print("error: sslkernels failed on " + "; ".join(failures), file=sys.stderr)
        raise typer.Exit(1)


def _report(files: list[Path], folder: Path) -> None:
    # Imported here: only this command needs matplotlib.
    try:
        from benchmarks.report import write_report
    except ModuleNotFoundError as error:
        raise InputError(f"{error.name} is not installed: pip install -e '.[bench]'") from None

    runs = [results.load(file) for file in files]
    for page in write_report(runs, folder):
        screen.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)
