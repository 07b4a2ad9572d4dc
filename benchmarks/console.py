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
from benchmarks.registry import OURS, compared, eager_word, headline, label, operator
from benchmarks.results import Results, told

COLORS = {SLOWER: "red", FASTER: "green"}


@contextmanager
def progress(cases: list[Case], quick: bool) -> Iterator[Callable[[str], None]]:
    """A bar on standard error; the block is given a function that names the next step."""
    # One step each for the environment and every rate of the machine.
    rates = len(runner.wanted_rates(cases))
    total = 1 + rates + sum(runner.steps(operator(c.op), c, quick) for c in cases)
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
    """Our time and the ratios in the headline mode: a table an operator, a row a case."""
    return [_results_table(run, op) for op in dict.fromkeys(r.case.op for r in run.cases)]


def _results_table(run: Results, op: str) -> Table:
    results = [result for result in run.cases if result.case.op == op]
    measured = {t.implementation for result in results for t in result.timings}
    baselines = [name for name in compared(op) if name in measured]
    mode = headline(op)
    table = Table(title=f"{run.label}, {op}: {text.mode(mode)}, time / ours")
    table.add_column("case", no_wrap=True)
    for column in (
        "ours",
        *(label(op, name) for name in baselines),
        f"memory of {eager_word(op)}'s",
    ):
        table.add_column(column, justify="right", overflow="fold")
    for result in results:
        timed = {t.implementation: t for t in result.timings if t.mode == mode}
        ratios = []
        for name in baselines:
            ratio = timed[name].ratio if name in timed else None
            ratios.append(f"{text.times(ratio)}\n{text.bounds(ratio)}" if ratio else "-")
        ours = next((m for m in result.memory if m.implementation == OURS), None)
        percent = ours.percent_of_eager if ours else None
        table.add_row(
            "\n".join([result.case.shape_text, result.case.kind, *told(result.case, results)]),
            text.seconds(timed[OURS].median) if OURS in timed else "-",
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
