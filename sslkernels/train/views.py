"""Views of images, as a method that compares them is shown them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum

import torch
from torch import Tensor

import sslkernels
from sslkernels import AugmentPolicy, philox, policies
from sslkernels.train import by_torchvision
from sslkernels.train.seeds import fold

VIEWS = 2
TINY = 16  # a side below which crops must stay large
LARGE = 64  # a side from which images are treated as ImageNet's

Shape = tuple[int, int, int]
"""Channels, height and width of an image."""


class Augment(str, Enum):
    """Who makes the views."""

    sslkernels = "sslkernels"
    torchvision = "torchvision"


def grey(size: tuple[int, int]) -> AugmentPolicy:
    """SimCLR's policy for grey images, without flips: they may be digits or letters."""
    if min(size) < TINY:
        return tiny_grey(size)
    return AugmentPolicy(
        size, crop_scale=(0.2, 1.0), brightness=0.4, contrast=0.4, jitter_probability=0.8
    )


def tiny_grey(size: tuple[int, int]) -> AugmentPolicy:
    """For grey images of which a fifth would be three pixels a side: turned and noisy instead."""
    return AugmentPolicy(
        size,
        crop_scale=(0.6, 1.0),
        rotation=20,
        brightness=0.4,
        contrast=0.4,
        noise_probability=1.0,
        noise_std=0.1,
    )


def small(shape: Shape) -> AugmentPolicy:
    """What two views are drawn from: SimCLR's policy for colour, less for grey. Not normalised, for
    networks that begin with a normalisation of their own."""
    channels, *size = shape
    if channels == 1:
        return grey((size[0], size[1]))
    make = policies.simclr if min(size) >= LARGE else policies.simclr_cifar
    return make((size[0], size[1]), mean=None, std=None)


def plain(shape: Shape) -> AugmentPolicy:
    """What a single view is drawn from whose pixels are to be guessed: a crop, and nothing else."""
    return AugmentPolicy(shape[1:], crop_scale=(0.6, 1.0))


class Views:
    """Examples that are random views of images, other ones in each epoch.

    What is drawn depends on the seed, the epoch and the number of the image alone.

    Args:
        images: uint8 [N, C, H, W].
        policy: what the views are drawn from; one, or one for each view.
        augment: who makes them.

    Raises:
        TrainError: torchvision is asked for, and not installed.
        ValueError: torchvision is asked for, and the views differ in their policies.
    """

    unit = "images"

    def __init__(
        self,
        images: Tensor,
        policy: AugmentPolicy | Sequence[AugmentPolicy],
        *,
        seed: int,
        augment: Augment = Augment.sslkernels,
    ) -> None:
        self.images = images
        self.policies = (policy,) * VIEWS if isinstance(policy, AugmentPolicy) else tuple(policy)
        self.seed = seed
        self._make: Callable[[Tensor, Tensor, int], Tensor] = self._by_sslkernels
        if augment == Augment.torchvision:
            if len(set(self.policies)) > 1:
                raise ValueError("torchvision makes views of one policy, not of several")
            views = len(self.policies)
            self._make = by_torchvision.Maker(self.policies[0], views=views, seed=seed)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor, epoch: int) -> Tensor:
        """Views [V, B, C, h, w] of images `index`."""
        return self._make(self.images[index], index, epoch)

    def _by_sslkernels(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return sslkernels.augment(
            images, self.policies, seed=self.seed, epoch=epoch, sample_ids=ids
        )


class Drawn:
    """Views with the labels of their images, and random numbers for what a method draws itself.

    The numbers depend on the seed, the epoch and the number of the image alone, as views do.
    """

    unit = "images"

    def __init__(self, views: Views, labels: Tensor, numbers: int) -> None:
        self.views = views
        self.labels = labels
        self.numbers = numbers

    def __len__(self) -> int:
        return len(self.views)

    def batch(self, index: Tensor, epoch: int) -> dict[str, Tensor]:
        """views: [V, B, C, h, w]; labels, ids: int64 [B]; epoch: int64 0-dim; uniform: float32
        [B, numbers], in [0, 1)."""
        return {
            "views": self.views.batch(index, epoch),
            "labels": self.labels[index],
            "ids": index,
            "epoch": torch.tensor(epoch),
            "uniform": uniform(self.views.seed, epoch, index, self.numbers),
        }


def uniform(seed: int, epoch: int, ids: Tensor, count: int) -> Tensor:
    """float32 [B, count] in [0, 1), which depend on seed, epoch and id alone."""
    # A seed of its own: what views draw from the same stream is something else.
    blocks = torch.arange(-(-count // 4))
    words = philox.block(
        fold(seed, "uniform"), philox.Stream.AUGMENT, ids[:, None], blocks, epoch=epoch
    )
    return philox.uniform(torch.stack(words, 2).flatten(1)[:, :count])
