"""Errors as text: the one that ends the command line, and others put into a report."""

from __future__ import annotations

import re

LONGEST = 160


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
