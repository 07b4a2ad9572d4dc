"""The tables that the ladder keeps, and words that every page shares."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from benchmarks.errors import InputError

NOTICE = "Resources and counts; no time was measured."
COMMAND = "python -m benchmarks evidence"
SECTOR = 32
_EMULATION = Path(__file__).resolve().parents[2] / "tests" / "emulation"

Rows = dict[str, list[dict[str, Any]]]
"""Case to its kernels in order of launch."""


def resource_table() -> dict[str, Rows]:
    """Target to its cases, as `tests.emulation.resources` wrote them."""
    return _read("resources.json")


def counted_table() -> Rows:
    """The cases that `tests.emulation.counted` ran."""
    return _read("counts.json")


def heading(title: str) -> list[str]:
    """How each page begins."""
    return [f"# {title}", f"**{NOTICE}** Written by `{COMMAND}`."]


def users(cases: Iterable[str]) -> str:
    """Cases in short: 'symmetric forward (bfloat16 100, bfloat16 128)'."""
    calls: dict[str, list[str]] = {}
    for case in cases:
        inputs, _, call = case.rpartition(": ")
        calls.setdefault(call, []).append(inputs)
    return "; ".join(
        f"{call} ({', '.join(dict.fromkeys(inputs))})" if any(inputs) else call
        for call, inputs in calls.items()
    )


def _read(name: str) -> Any:
    path = _EMULATION / name
    try:
        return json.loads(path.read_text())
    except FileNotFoundError:
        raise InputError(f"evidence: there is no {name}; run it in a checkout") from None
