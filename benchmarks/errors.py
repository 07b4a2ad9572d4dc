"""Errors as text: the one that ends the command line, and others put into a report."""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Callable
from typing import ParamSpec, TypeVar

import typer

LONGEST = 160

P = ParamSpec("P")
R = TypeVar("R")


class InputError(ValueError):
    """What the user gave (an option, a file) cannot be used; the message says what is wanted."""


class Unsuitable(Exception):
    """An implementation cannot do a case; the message says why."""


def brief(text: str) -> str:
    """The first line of an error message, without paths of this machine, not too long."""
    line = next((line.strip() for line in text.splitlines() if line.strip()), "no message")
    line = re.sub(r"(?:/[\w.+-]+){2,}/?", "<path>", line)
    return line if len(line) <= LONGEST else line[: LONGEST - 3] + "..."


def describe(error: BaseException) -> str:
    """'ValueError: message', brief."""
    return brief(f"{type(error).__name__}: {error}")


def one_line_errors(command: Callable[P, R]) -> Callable[P, R]:
    """A command with one line for bad input (exit 2) and for an interruption (exit 130), no
    traceback."""

    @functools.wraps(command)
    def wrapped(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            return command(*args, **kwargs)
        except InputError as error:
            print(f"error: {error}", file=sys.stderr)
            raise typer.Exit(2) from None
        except KeyboardInterrupt:
            print("interrupted: nothing was written", file=sys.stderr)
            raise typer.Exit(130) from None

    return wrapped
