"""What decides a run's curve."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, field
from typing import Any

from sslkernels.train.errors import TrainError


@dataclass(frozen=True)
class Settings:
    """All that decides a run's curve. Kept in the checkpoint; to resume, it must be the same.

    Raises:
        TrainError: a value that no run can have, named.
    """

    method: str
    data: str
    epochs: int
    batch_size: int  # of all processes and micro-batches together
    lr: float
    seed: int
    precision: str = "float32"  # or float64, or bf16: the forward under autocast
    options: dict[str, Any] = field(default_factory=dict)  # the method's own
    optimizer: str = "adamw"  # or lars
    weight_decay: float = 1e-4
    warmup: float = 0.1  # share of all steps
    accumulate: int = 1  # micro-batches of a batch

    def __post_init__(self) -> None:
        if self.epochs < 1:
            raise TrainError(f"epochs is {self.epochs}, must be at least 1")
        if self.batch_size < 2:
            raise TrainError(f"batch size is {self.batch_size}, must be at least 2")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise TrainError(f"learning rate is {self.lr}, must be positive and finite")
        if not 0 <= self.seed < 2**63:
            raise TrainError(f"seed is {self.seed}, must be in 0..2**63 - 1")
        if not (math.isfinite(self.weight_decay) and self.weight_decay >= 0):
            raise TrainError(
                f"weight decay is {self.weight_decay}, must be finite and not negative"
            )
        if not 0 <= self.warmup <= 1:
            raise TrainError(f"warmup is {self.warmup}, must be in 0..1")
        if self.accumulate < 1 or self.batch_size < 2 * self.accumulate:
            raise TrainError(
                f"accumulate is {self.accumulate}, must be at least 1, and leave 2 examples of "
                f"the batch of {self.batch_size} in each part"
            )

    def flat(self) -> dict[str, Any]:
        """All settings by name, the method's own among them."""
        flat = asdict(self)
        options = flat.pop("options")
        return flat | options
