"""Scripts in turn, some steps of each in a round; rates, shares of the phases, paired ratios."""

from __future__ import annotations

import random
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.statistics import Interval, paired_ratio, spread
from benchmarks.timing import gc_paused
from benchmarks.training.phases import PHASES, Clock


class Script(ABC):
    """A training script. The first of a list is ours.

    Attributes:
        name: as reports show it.
        items: how many images or tokens a step consumes.
    """

    name: str
    items: int

    @abstractmethod
    def run(self, steps: int, clock: Clock) -> None:
        """Train for some steps, with the loading of their data from its start to its end: whoever
        works ahead in other processes must neither begin before nor go on afterwards."""


@dataclass(frozen=True)
class Trained:
    """What was measured of one script.

    Attributes:
        rates: items a second, a value a round.
        ratio: our rate over this one's, paired by round.
        milliseconds: of a step, by phase; the median of the rounds.
    """

    name: str
    rates: list[float]
    ratio: Interval
    milliseconds: dict[str, float]

    @property
    def rate(self) -> float:
        """Items a second, the median of the rounds."""
        return spread(self.rates)[1]


def measure(
    scripts: Sequence[Script], *, steps: int, rounds: int, report: Callable[[str], None]
) -> list[Trained]:
    """Train with each script, after one uncounted turn, in every round in a new random order."""
    for script in scripts:
        report(f"warm-up: {script.name}")
        script.run(1, Clock())
    rates: dict[str, list[float]] = {script.name: [] for script in scripts}
    phases: dict[str, list[dict[str, float]]] = {script.name: [] for script in scripts}
    order = list(scripts)
    shuffle = random.Random(0).shuffle
    with gc_paused():
        for number in range(rounds):
            shuffle(order)
            for script in order:
                report(f"round {number + 1} of {rounds}: {script.name}")
                clock, start = Clock(), time.perf_counter()
                script.run(steps, clock)
                rates[script.name].append(steps * script.items / (time.perf_counter() - start))
                phases[script.name].append(clock.seconds)
    ours = rates[scripts[0].name]
    found = []
    for script in scripts:
        ratio = paired_ratio(ours, rates[script.name])
        assert ratio is not None  # every round has every script
        median = {
            phase: spread([1e3 * taken[phase] / steps for taken in phases[script.name]])[1]
            for phase in PHASES
        }
        found.append(Trained(script.name, rates[script.name], ratio, median))
    return found
