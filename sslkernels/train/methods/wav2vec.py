"""wav2vec 2.0: A Framework for Self-Supervised Learning of Speech Representations.

Baevski, Zhou, Mohamed, Auli, 2020 (arXiv 2006.11477), without its quantiser. Convolutions
make frames of a sound, half of them are hidden from a transformer, and what it says at a hidden
frame should be close to that frame, and far from the other hidden frames of the sound.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

import sslkernels
from sslkernels.train.arguments import Temperature, positive
from sslkernels.train.audio.sounds import SAMPLES
from sslkernels.train.methods import Method
from sslkernels.train.transformer import Block, initialise, sinusoids

WIDTH = 64
STRIDE = 40  # samples of a frame
SPAN = 4  # frames that are hidden together


class Wav2vec(Method[dict[str, Tensor]]):
    """forward: a batch of `Waves` -> InfoNCE of each hidden frame against the sound's others.

    Raises:
        TrainError: a temperature that is not positive and finite.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 10, "batch_size": 64, "lr": 1e-3}
    numbers = SAMPLES // STRIDE // SPAN

    def __init__(self, *, temperature: Temperature = 0.1) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.encoder = Listener()
        self.blank = nn.Parameter(torch.randn(WIDTH) * WIDTH**-0.5)
        self.target = nn.Linear(WIDTH, WIDTH)
        self.guess = nn.Linear(WIDTH, WIDTH)

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Any:
        return self.compared(batch)[0]

    def compared(self, batch: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """The loss, and the share of hidden frames that are closest to their own, both 0-dim."""
        frames = self.encoder.frames(batch["waves"])
        spans = batch["uniform"].argsort(1)[:, : self.numbers // 2]
        hidden = (spans[:, :, None] * SPAN + torch.arange(SPAN, device=spans.device)).flatten(1)
        index = hidden[:, :, None].expand(-1, -1, WIDTH)
        blank = self.blank.to(frames.dtype).expand(index.shape)
        said = self.encoder.context(frames.scatter(1, index, blank)).gather(1, index)
        target = self.target(frames.gather(1, index))
        count = hidden.shape[1]
        # For each hidden frame all of the others: the paper draws 100 of them.
        others = torch.arange(count, device=hidden.device)
        others = (others[:, None] + others[1:]) % count
        return sslkernels.info_nce(
            self.guess(said).flatten(0, 1),
            target.flatten(0, 1),
            target[:, others].flatten(0, 1),
            temperature=self.temperature,
            return_accuracy=True,
        )


class Listener(nn.Module):
    """Sounds [B, SAMPLES] -> features [B, WIDTH], the mean over frames of the transformer."""

    def __init__(self) -> None:
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(1, WIDTH, 10, stride=5, padding=3),
            nn.GroupNorm(WIDTH, WIDTH),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 8, stride=4, padding=2),
            nn.GELU(),
            nn.Conv1d(WIDTH, WIDTH, 4, stride=2, padding=1),
            nn.GELU(),
        )
        self.norm = nn.LayerNorm(WIDTH)
        self.positions = nn.Parameter(sinusoids(SAMPLES // STRIDE, WIDTH))
        self.blocks = nn.ModuleList(Block(WIDTH, causal=False) for _ in range(2))
        self.last = nn.LayerNorm(WIDTH)
        self.blocks.apply(initialise)

    def frames(self, waves: Tensor) -> Tensor:
        """[B, SAMPLES] -> [B, SAMPLES / STRIDE, WIDTH]."""
        return self.norm(self.convolutions(waves[:, None]).transpose(1, 2))

    def context(self, frames: Tensor) -> Tensor:
        x = frames + self.positions
        for block in self.blocks:
            x = block(x, None)
        return self.last(x)

    def forward(self, waves: Tensor) -> Tensor:
        return self.context(self.frames(waves)).mean(1)
