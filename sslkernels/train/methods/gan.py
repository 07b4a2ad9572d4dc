"""DCGAN: Unsupervised Representation Learning with Deep Convolutional Generative Adversarial Nets.

Radford, Metz, Chintala, 2015 (arXiv 1511.06434), on GANs (arXiv 1406.2661), with DiffAugment (arXiv
2006.10738): both real and made images are augmented, in the generator's turn with a gradient
through the augmentation. What is kept is the discriminator, whose features tell classes apart.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sslkernels
from sslkernels import AugmentPolicy
from sslkernels.train.errors import TrainError
from sslkernels.train.images import Images
from sslkernels.train.methods.image import PixelMethod
from sslkernels.train.views import Shape

LATENT = 32
JUDGED = 2000  # held-out images, at most, that what is made is compared with
DISCRIMINATOR, GENERATOR = "discriminator", "generator"


class GAN(PixelMethod):
    """forward: real images [1, B, C, H, W] -> the non-saturating loss of one of the two players.

    Raises:
        TrainError: sides that are no multiples of 4.
    """

    turns = (DISCRIMINATOR, GENERATOR)
    betas = (0.5, 0.999)  # the paper's; with 0.9 all that is made becomes the same image
    numbers = 2 * LATENT  # two uniform numbers make a normal one
    defaults: ClassVar[Mapping[str, Any]] = {"lr": 5e-4, "batch_size": 64, "epochs": 60}

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        channels, height, width = shape
        if height % 4 or width % 4:
            raise TrainError(f"images are {height} x {width}: gan wants multiples of 4")
        self.encoder = nn.Sequential(
            Stretch(),
            nn.Conv2d(channels, 64, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(64, 128, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(128),
            nn.LeakyReLU(0.2),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.head = nn.Linear(128 * (height // 4) * (width // 4), 1)
        self.generator = nn.Sequential(
            nn.Linear(LATENT, 128 * (height // 4) * (width // 4), bias=False),
            nn.Unflatten(1, (128, height // 4, width // 4)),
            nn.BatchNorm2d(128),
            nn.ReLU(),
            nn.ConvTranspose2d(128, 64, 4, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(64),
            nn.ReLU(),
            nn.ConvTranspose2d(64, channels, 4, stride=2, padding=1),
            nn.Tanh(),
        )
        # Cutting out half of both sides leaves too little of images as small as these.
        self.diffaugment = sslkernels.policies.diffaugment((height, width), cutout=0.25)

    @classmethod
    def views(cls, shape: Shape) -> tuple[AugmentPolicy, ...]:
        """The images as they are: what is made should look like them."""
        return (AugmentPolicy(shape[1:]),)

    def trained(self, turn: str) -> list[nn.Parameter]:
        if turn == GENERATOR:
            return list(self.generator.parameters())
        return [*self.encoder.parameters(), *self.head.parameters()]

    def forward(self, batch: dict[str, Tensor], /, turn: str = DISCRIMINATOR) -> Any:
        with torch.set_grad_enabled(turn == GENERATOR):
            made = self.generator(normal(batch["uniform"]))
        if turn == GENERATOR:
            return F.softplus(-self.judge(made, batch, 0)).mean()
        real = Stretch()(batch["views"][0])
        return (
            F.softplus(-self.judge(real, batch, 1)).mean()
            + F.softplus(self.judge(made, batch, 2)).mean()
        )

    def judge(self, images: Tensor, batch: dict[str, Tensor], use: int) -> Tensor:
        """Logits [B] of being real, of images [B, C, H, W] in [-1, 1]; each use draws anew."""
        (augmented,) = sslkernels.augment(
            images.contiguous(),
            self.diffaugment,
            views=1,
            seed=use,
            epoch=int(batch["epoch"]),
            sample_ids=batch["ids"],
        )
        # The maps before the mean over the image: what lies where tells real from made.
        maps = self.encoder[1:-2](augmented.to(images.dtype))
        return self.head(maps.flatten(1))[:, 0]

    def measures(self, data: Images) -> dict[str, float]:
        """Precision and recall of what is made against held-out images (arXiv 1904.06991), by the
        distances of pixels to the third neighbour."""
        real = (data.test[:JUDGED] / 255).flatten(1)
        generator = torch.Generator().manual_seed(0)
        uniform = torch.rand(len(real), self.numbers, generator=generator)
        made = self.generator(normal(uniform.to(self.head.weight)))
        made = (made.float().cpu().flatten(1) + 1) / 2
        return {
            "made images like real ones": covered(made, real),
            "real images like made ones": covered(real, made),
        }


class Stretch(nn.Module):
    """[0, 1] -> [-1, 1]."""

    def forward(self, images: Tensor) -> Tensor:
        return images * 2 - 1


def covered(points: Tensor, others: Tensor, k: int = 3) -> float:
    """Share of points [N, D] that are no further from one of the others [M, D] than that one's k-th
    neighbour among its own is."""
    radius = torch.cdist(others, others).kthvalue(min(k + 1, len(others)), dim=1).values
    return (torch.cdist(points, others) <= radius).any(1).double().mean().item()


def normal(uniform: Tensor) -> Tensor:
    """Box and Muller's: uniform [B, 2 n] in [0, 1) -> standard normal [B, n]."""
    radius, angle = uniform.chunk(2, 1)
    return (-2 * (1 - radius).log()).sqrt() * (2 * math.pi * angle).cos()
