"""The command line: run, report, compare."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from benchmarks import compare as comparing
from benchmarks import console, results, runner
from benchmarks.case import Case, check_device
from benchmarks.choose import chosen_cases, shape_help
from benchmarks.errors import InputError, one_line_errors
from benchmarks.registry import EAGER, OURS, operators
from benchmarks.training import cli as training

FOLDER = Path("benchmark-results")
RESULTS = FOLDER / "results.json"

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


@app.callback(invoke_without_command=True)
@one_line_errors
def default(context: typer.Context) -> None:
    """Without a command: `run --quick`, then `report`."""
    if context.invoked_subcommand is None:
        results.check_writable(RESULTS, "run")
        _run(chosen_cases(quick=True), quick=True, command="run --quick", out=RESULTS)
        _report([RESULTS], FOLDER)


@app.command()
@one_line_errors
def run(
    quick: Annotated[bool, typer.Option("--quick", help="Few cases, few rounds.")] = False,
    op: Annotated[list[str] | None, typer.Option(help="Operator; repeat for more.")] = None,
    shape: Annotated[
        list[str] | None,
        typer.Option(help=f"{shape_help(list(operators().values()))}; repeat for more."),
    ] = None,
    dtype: Annotated[
        list[str] | None, typer.Option(help="bfloat16, float16, float32, float64, uint8.")
    ] = None,
    precision: Annotated[
        list[str] | None, typer.Option(help="Of float32: highest, high, medium.")
    ] = None,
    temperature: Annotated[
        float | None,
        typer.Option(
            help="Of contrastive losses, with --shape only; when left out 0.1, 0.2 for info_nce, "
            "0.05 for retrieval, 0.07 for clip_loss."
        ),
    ] = None,
    masked: Annotated[
        float | None,
        typer.Option(
            help="Share of tokens with a target, of linear_cross_entropy, with --shape only; "
            "0.15 when left out, 1 for a causal model."
        ),
    ] = None,
    blur: Annotated[
        float | None,
        typer.Option(help="Probability of blur, of augment, with --shape only; 0.5 when left out."),
    ] = None,
    reuse: Annotated[
        float | None,
        typer.Option(
            help="1: views are written into the tensor of the step before, of augment, with "
            "--shape only; 0 when left out: a new tensor each step."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help="Real rows in place of random ones, of contrastive losses, with --shape only: "
            "digits, fashion-mnist or sentences."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    threads: Annotated[int | None, typer.Option(help="CPU threads; as many as torch uses.")] = None,
    label: Annotated[str | None, typer.Option(help="Title of the run in reports.")] = None,
    out: Annotated[Path, typer.Option(help="Where to write the results.")] = RESULTS,
) -> None:
    """Measure, and write one results file."""
    results.check_writable(out, "--out")
    parameters = {"temperature": temperature, "masked": masked, "blur": blur, "reuse": reuse}
    parameters = {name: value for name, value in parameters.items() if value is not None}
    cases = chosen_cases(
        quick=quick,
        ops=op,
        shapes=shape,
        dtypes=dtype,
        precisions=precision,
        parameters=parameters,
        data=data,
        device=device,
        threads=threads,
    )
    given: list[tuple[str, object]] = [
        *(("--op", one) for one in op or []),
        *(("--shape", one) for one in shape or []),
        *(("--dtype", one) for one in dtype or []),
        *(("--precision", one) for one in precision or []),
        *((f"--{name}", value) for name, value in parameters.items()),
        ("--data", data),
        ("--device", device if device != "cpu" else None),
        ("--threads", threads),
    ]
    words = ["run", *(["--quick"] if quick else [])]
    words += [f"{name} {value}" for name, value in given if value is not None]
    _run(cases, quick=quick, command=" ".join(words), out=out, label=label)


@app.command()
@one_line_errors
def report(
    files: Annotated[
        list[Path] | None, typer.Argument(help="Results files, one section each.")
    ] = None,
    folder: Annotated[Path, typer.Option("--folder", help="Where to write the pages.")] = FOLDER,
) -> None:
    """Write report.md and report.html from results files."""
    _report(files or [RESULTS], folder)


@app.command()
@one_line_errors
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


@app.command()
@one_line_errors
def tune(
    device: Annotated[str, typer.Option(help="cuda, or one of several as cuda:1.")] = "cuda",
    dtype: Annotated[
        list[str] | None, typer.Option(help="bfloat16, float16, float32; all when left out.")
    ] = None,
    features: Annotated[
        list[int] | None, typer.Option(help="Width of the rows; 128 and 768 when left out.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="File of the tiles; the one that is read if left out.")
    ] = None,
) -> None:
    """Measure the tiles of the similarity kernels on this card, and keep the fastest for it."""
    from benchmarks import tune as tuning

    check_device(device)
    if not device.startswith("cuda"):
        raise InputError(f"--device: got {device!r}, wanted cuda: tiles are those of GPU kernels")
    chosen = tuning.subjects(device, dtype or [], features or [])
    found = tuning.tuned_tiles(chosen, tuning.median_seconds, screen.print)
    screen.print(f"tiles: {tuning.keep(found, out)}", highlight=False, soft_wrap=True)


@app.command()
@one_line_errors
def evidence(
    folder: Annotated[
        Path | None,
        typer.Option("--folder", help="Where to write; benchmarks/results/evidence if left out."),
    ] = None,
) -> None:
    """Write what is known of the kernels for GPUs without one: resources and counts, no times."""
    try:
        from benchmarks.evidence import FOLDER as usual
        from benchmarks.evidence import write_evidence
    except ModuleNotFoundError as error:
        raise InputError(f"evidence: there is no {error.name}; run it in a checkout") from None

    for page in write_evidence(folder or usual):
        screen.print(f"evidence: {page}", highlight=False, markup=False, soft_wrap=True)


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
    for table in console.results_tables(found):
        screen.print(table)
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
    results.check_writable(folder / "report.html", "--folder")
    for page in write_report(runs, folder):
        screen.print(f"report: {page}", highlight=False, markup=False, soft_wrap=True)


training.add_to(app, screen)
