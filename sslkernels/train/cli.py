"""The command line: `python -m sslkernels train METHOD --data NAME`."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import typer

from sslkernels.train.after import commands as after
from sslkernels.train.options import one_line_errors
from sslkernels.train.registry import METHODS, Entry
from sslkernels.train.run import pretrain

app = typer.Typer(
    no_args_is_help=True,
    help="Train a reference system on data at hand, and use it.",
    rich_markup_mode="markdown",
)


def parameters(entry: Entry) -> list[inspect.Parameter]:
    """A command's options: those of its family, with the method's defaults, then its own."""
    options = entry.family.options
    hints = typing.get_type_hints(options, include_extras=True)
    shared = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=entry.method.defaults.get(field.name, field.default),
            annotation=hints[field.name],
        )
        for field in dataclasses.fields(options)
    ]
    return [*shared, *entry.own.values()]


def command(entry: Entry) -> Callable[..., None]:
    """The function of a method's command, with a signature that typer can read."""
    wanted = parameters(entry)

    def train(**given: Any) -> None:
        own = {name: given.pop(name) for name in entry.own}
        with one_line_errors():
            pretrain(entry, entry.family.options(**given), own)

    train.__name__ = entry.name
    train.__annotations__ = {x.name: x.annotation for x in wanted}
    train.__signature__ = inspect.Signature(wanted)  # type: ignore[attr-defined]
    return train


for _entry in METHODS.values():
    app.command(_entry.name, help=_entry.about, short_help=_entry.about.splitlines()[0])(
        command(_entry)
    )


after.add_to(app)
