"""What the command line shows: a progress bar, and tables of results."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from benchmarks import runner, text
from benchmarks.case import Case
from benchmarks.compare import FASTER, SLOWER, Comparison
from benchmarks.registry import OURS, compared, label, operator
from benchmarks.results import Results

COLORS = {SLOWER: "red", FASTER: "green"}


@contextmanager
def progress(cases: list[Case], quick: bool) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; the block is given a function that names the next step."""
    # One step each for the environment and the matrix product rate of every kind.
    kinds = {case.kind for case in cases if not case.memory_only}
    total = 1 + len(kinds) + sum(runner.steps(operator(c.op), c, quick) for c in cases)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("starting", total=total)
        started = False

        def advance(step: str) -> None:
            nonlocal started
            bar.update(task, description=step, advance=1 if started else 0)
            started = True

        yield advance


def results_tables(run: Results) -> list[Table]:
    """Our time and the ratios of forward + backward: a table an operator, a row a case."""
    return [_results_table(run, op) for op in dict.fromkeys(r.case.op for r in run.cases)]


def _results_table(run: Results, op: str) -> Table:
    results = [result for result in run.cases if result.case.op == op]
    measured = {t.implementation for result in results for t in result.timings}
    baselines = [name for name in compared(op) if name in measured]
    table = Table(title=f"{run.label}, {op}: forward + backward, time / ours")
    table.add_column("case", no_wrap=True)
    for column in ("ours", *(label(op, name) for name in baselines), "memory of eager's"):
        table.add_column(column, justify="right", overflow="fold")
    for result in results:
        both = {t.implementation: t for t in result.timings if t.mode == "forward+backward"}
        ratios = []
        for name in baselines:
            ratio = both[name].ratio if name in both else None
            ratios.append(f"{text.times(ratio)}\n{text.bounds(ratio)}" if ratio else "-")
        ours = next((m for m in result.memory if m.implementation == OURS), None)
        percent = ours.percent_of_eager if ours else None
        table.add_row(
            f"{result.case.shape_text}\n{result.case.kind}",
            text.seconds(both[OURS].median) if OURS in both else "-",
            *ratios,
            "-" if percent is None else f"{text.significant(percent)} %",
        )
    return table


def comparison_table(found: list[Comparison]) -> Table:
    """New time over old time with its interval and the verdict, a row a case and mode."""
    table = Table(title="new time / old time")
    for column in ("case", "mode", "old", "new", "ratio", "relative to", "verdict"):
        table.add_column(column, overflow="fold")
    for one in found:
        color = COLORS.get(one.verdict)
        table.add_row(
            one.case,
            one.mode,
            text.seconds(one.old_median),
            text.seconds(one.new_median),
            f"{text.times(one.ratio)} ({text.bounds(one.ratio)})",
            one.against,
            f"[{color}]{one.verdict}[/]" if color else one.verdict,
        )
    return table
