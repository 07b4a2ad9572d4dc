"""MAE: Masked Autoencoders Are Scalable Vision Learners.

He, Chen, Xie, Li, Dollar, Girshick, 2021 (arXiv 2111.06377). A vision transformer sees a quarter of
an image's patches; a small decoder makes the pixels of the others of what it says.
"""

from __future__ import annotations

from typing import Annotated

import torch
import typer
from torch import Tensor, nn

from sslkernels.train.arguments import share
from sslkernels.train.methods.image import PixelMethod
from sslkernels.train.transformer import Block, initialise
from sslkernels.train.views import Shape
from sslkernels.train.vit import ViT

MaskShare = Annotated[float, typer.Option(help="Share of the patches that is hidden.")]


class MAE(PixelMethod):
    """forward: one view of each image [1, B, C, H, W] -> the squared error of its hidden patches,
    each less its mean and over its standard deviation (the paper's better target). Of the patches
    at least one is hidden, and one seen, whatever the share.

    Raises:
        TrainError: a share outside of 0..1; images that `vit.ViT` does not take.
    """

    encoder: ViT

    def __init__(self, shape: Shape, *, mask: MaskShare = 0.75) -> None:
        super().__init__()
        share("mask", mask)
        self.encoder = vit = ViT(shape)
        self.numbers = vit.count
        self.kept = min(max(1, round(vit.count * (1 - mask))), vit.count - 1)
        self.blank = nn.Parameter(torch.zeros(vit.width))
        self.positions = nn.Parameter(vit.positions.detach().clone())
        self.decoder = Block(vit.width, causal=False)
        self.pixels = nn.Sequential(nn.LayerNorm(vit.width), nn.Linear(vit.width, vit.pixels))
        self.decoder.apply(initialise)
        self.pixels.apply(initialise)

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        images = batch["views"][0]
        order = batch["uniform"].argsort(1)
        seen, hidden = order[:, : self.kept], order[:, self.kept :]
        tokens = self.encoder.tokens(images, seen)
        every = self.blank.to(tokens.dtype).expand(len(images), self.encoder.count, -1)
        every = every.scatter(1, seen[:, :, None].expand_as(tokens), tokens) + self.positions
        guess = picked(self.pixels(self.decoder(every, None)), hidden)
        target = picked(self.encoder.patches(images), hidden)
        mean, deviation = target.mean(2, keepdim=True), target.std(2, keepdim=True)
        return (guess - (target - mean) / (deviation + 1e-3)).square().mean()


def picked(tokens: Tensor, index: Tensor) -> Tensor:
    """Of tokens [B, S, D], those of index [B, K]: [B, K, D]."""
    return tokens.gather(1, index[:, :, None].expand(-1, -1, tokens.shape[2]))
