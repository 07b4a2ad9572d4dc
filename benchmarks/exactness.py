"""Errors of an operator that draws at random: everyone is given the same draws."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Exactness:
    """The largest absolute difference from the truth in one stage, or why there is none."""

    implementation: str
    stage: str
    error: float | None
    reason: str | None = None
