"""One method a file: which views, which networks, which loss."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Generic

from torch import Tensor, nn

from sslkernels.train.data import Batch


class Method(nn.Module, ABC, Generic[Batch]):
    """What the shared loop trains; the part to keep is called `encoder`.

    What the constructor takes by keyword alone are the method's options on the command line; if it
    hands further ones on (`**`), what the next constructor takes, too.
    Nothing here draws random numbers in training: they come with the batch, by the number of the
    example, so that a batch may be cut in any way.

    Attributes:
        defaults: of the shared options, where the method's differ.
        turns: the steps that a batch is good for, one after another, each with an optimizer of its
            own; a GAN has two.
        betas: of AdamW.
        group: the processes that share a batch, where there are several; for losses that compare
            rows with each other.
    """

    defaults: ClassVar[Mapping[str, Any]] = {}
    turns: ClassVar[tuple[str, ...]] = ("loss",)
    betas: ClassVar[tuple[float, float]] = (0.9, 0.999)
    group: Any = None
    encoder: Any  # a module; each method knows of what kind

    @abstractmethod
    def forward(self, batch: Batch, /, turn: str = "loss") -> Any:
        """The loss of a batch, 0-dim, in this turn."""

    def trained(self, turn: str) -> list[nn.Parameter]:
        """The parameters that this turn's optimizer moves."""
        return [p for p in self.parameters() if p.requires_grad]

    def after_step(self, done: float) -> None:
        """Called after each step, with the share of all steps that is done: teachers and queues."""


class Contrastive(Method[Batch]):
    """A loss of rows that are all compared with each other.

    In two parts, so that a batch too large for memory can be encoded in micro-batches and compared
    as a whole (`sslkernels.accumulate`).
    """

    @property
    def across(self) -> dict[str, Any]:
        """What a loss is told of the processes that share a batch."""
        return {} if self.group is None else {"group": self.group}

    @abstractmethod
    def encode(self, batch: Batch) -> tuple[Tensor, ...]:
        """What is compared: tensors with a row for each example, or 0-dim."""

    @abstractmethod
    def compare(self, *rows: Tensor) -> Tensor:
        """The loss of these, 0-dim."""

    def forward(self, batch: Batch, /, turn: str = "loss") -> Any:
        rows = self.encode(batch)
        return rows if turn == "encode" else self.compare(*rows)
