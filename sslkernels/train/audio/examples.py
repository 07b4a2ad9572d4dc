"""Sounds in batches."""

from __future__ import annotations

from torch import Tensor

from sslkernels.train.views import uniform


class Waves:
    """Sounds, with random numbers for what is masked, which depend on seed, epoch and number."""

    unit = "sounds"

    def __init__(self, sounds: Tensor, *, numbers: int, seed: int) -> None:
        self.sounds = sounds
        self.numbers = numbers
        self.seed = seed

    def __len__(self) -> int:
        return len(self.sounds)

    def batch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """waves: float32 [B, samples]; uniform: float32 [B, numbers] in [0, 1)."""
        drawn = uniform(self.seed, epoch, index, self.numbers)
        return {"waves": self.sounds[index], "uniform": drawn}
