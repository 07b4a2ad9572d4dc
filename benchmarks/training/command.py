"""What `python -m benchmarks training` does: scripts, data; a table, a file, a page."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from rich.table import Table

from benchmarks import environment, text
from benchmarks.errors import InputError
from benchmarks.results import write_atomically
from benchmarks.training import bert, simclr, trainer
from benchmarks.training.measure import Script, Trained, measure
from benchmarks.training.phases import PHASES
from sslkernels.train import images
from sslkernels.train.errors import TrainError
from sslkernels.train.options import RunOptions
from sslkernels.train.registry import METHODS
from sslkernels.train.text import corpus, tokens

# Of methods with a script of their own, and rivals from other packages.
ITEMS = {"simclr": "images", "bert": "tokens"}
DEFAULT_BATCH = {"simclr": 512, "bert": 32}
VOCABULARY, LENGTH = 16384, 128


def scripts(
    method: str,
    data: str | None,
    *,
    batch: int,
    workers: int,
    precision: str,
    width: int | None = None,
    teacher: Path | None = None,
) -> list[Script]:
    """Ours and its rivals.

    Raises:
        InputError: the data is not there, smaller than a batch, or not what the method takes.
    """
    try:
        if method not in DEFAULT_BATCH:
            own = {"teacher": teacher} if method == "distil" else {}
            return trainer.scripts(method, data, batch=batch, precision=precision, own=own)
        if method == "bert":
            found = tokens.load(data or corpus.STDLIB, 8.0, VOCABULARY, resume_from=None)
            rows = torch.cat(found.train)
            rows = rows[: len(rows) // LENGTH * LENGTH].view(-1, LENGTH)
            return bert.scripts(
                rows,
                batch=batch,
                vocab_size=found.vocab_size,
                width=256,
                layers=4,
                precision=precision,
            )
        pictures = images.load(data or "fashion-mnist").train
    except TrainError as error:
        raise InputError(str(error)) from None
    channels, *size = pictures.shape[1:]
    if channels != 1 or size[0] != size[1]:
        raise InputError(
            f"--data: wanted square grey images, got {channels} x {size[0]} x {size[1]}"
        )
    if batch > len(pictures):
        raise InputError(f"--batch-size: {batch} is more than the {len(pictures)} images there are")
    return simclr.scripts(pictures, batch=batch, workers=workers, precision=precision, width=width)


def default_batch(method: str) -> int:
    """Examples in a step: of the script, else of `sslkernels train`."""
    shared: int = METHODS[method].method.defaults.get("batch_size", RunOptions.batch_size)
    return DEFAULT_BATCH.get(method, shared)


def run(
    method: str,
    data: str | None,
    *,
    batch: int | None,
    workers: int,
    width: int | None,
    precision: str,
    teacher: Path | None,
    steps: int,
    rounds: int,
    threads: int | None,
    out: Path,
    report: Callable[[str], None],
) -> Table:
    """Measure, write `out` and a page of the same name beside it; the table that the page has."""
    if method not in METHODS:
        raise InputError(f"METHOD: got {method!r}, wanted one of {', '.join(METHODS)}")
    batch = default_batch(method) if batch is None else batch
    for name, value in (("batch-size", batch), ("steps", steps), ("rounds", rounds)):
        if value < 1:
            raise InputError(f"--{name}: must be at least 1, got {value}")
    if workers < 0:
        raise InputError(f"--workers: must not be negative, got {workers}")
    if width is not None and method != "simclr":
        raise InputError(f"--width: of simclr, {method} is measured at its own")
    if width is not None and width < 1:
        raise InputError(f"--width: must be at least 1, got {width}")
    if precision not in ("float32", "bf16"):
        raise InputError(f"--precision: got {precision!r}, wanted float32 or bf16")
    if teacher is not None and method != "distil":
        raise InputError(f"--teacher: of distil, {method} has none")
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        contenders = scripts(
            method,
            data,
            batch=batch,
            workers=workers,
            precision=precision,
            width=width,
            teacher=teacher,
        )
        where = environment.collect(torch.get_num_threads())
        found = measure(contenders, steps=steps, rounds=rounds, report=report)
    finally:
        torch.set_num_threads(before)
    wide = "" if width is None else f"width {width}, "
    title = f"{method}, {wide}batch {batch}, {precision}, {where.threads} threads"
    measured = {
        "title": title,
        "unit": f"{_unit(method)} a second",
        "environment": dataclasses.asdict(where),
        "scripts": [dataclasses.asdict(one) for one in found],
    }
    write_atomically(out, json.dumps(measured, indent=1) + "\n")
    write_atomically(out.with_suffix(".md"), page(title, method, found, where.cpu))
    return table(title, method, found)


def table(title: str, method: str, found: Sequence[Trained]) -> Table:
    """Rates, ratios, and milliseconds of each phase of a step."""
    result = Table(title=f"{title}: training steps")
    for number, column in enumerate(_columns(method)):
        result.add_column(column, justify="right" if number else "left")
    for row in _rows(found):
        result.add_row(*row)
    return result


def page(title: str, method: str, found: Sequence[Trained], cpu: str) -> str:
    """The same as Markdown."""
    lines = [
        f"# {title}",
        "",
        f"Whole training steps on {cpu}. Each round has some steps of every script, in a random "
        "order; ratios are medians of the rounds' own, with their 95 % interval.",
        "",
        text.markdown_table(_columns(method), _rows(found)),
        "",
    ]
    return "\n".join(lines)


def _unit(method: str) -> str:
    return ITEMS.get(method, "examples")


def _columns(method: str) -> list[str]:
    return ["script", f"{_unit(method)} / s", "ours / this", *(f"{one}, ms" for one in PHASES)]


def _rows(found: Sequence[Trained]) -> list[list[str]]:
    return [
        [
            one.name,
            f"{one.rate:,.0f}",
            "1" if one is found[0] else f"{text.times(one.ratio)} {text.bounds(one.ratio)}",
            *(f"{one.milliseconds[phase]:.1f}" for phase in PHASES),
        ]
        for one in found
    ]
