"""Views of images, as a method that compares them is shown them."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum

from torch import Tensor

import sslkernels
from sslkernels import AugmentPolicy
from sslkernels.train import by_torchvision

VIEWS = 2


class Augment(str, Enum):
    """Who makes the views."""

    sslkernels = "sslkernels"
    torchvision = "torchvision"


def small_grey(size: tuple[int, int]) -> AugmentPolicy:
    """For small grey images. No flip: they may be digits."""
    return AugmentPolicy(
        size,
        crop_scale=(0.6, 1.0),
        rotation=20,
        brightness=0.4,
        contrast=0.4,
        noise_probability=1.0,
        noise_std=0.1,
    )


class Views:
    """Examples that are random views of images, other ones in each epoch.

    What is drawn depends on the seed, the epoch and the number of the image alone.

    Args:
        images: uint8 [N, C, H, W].
        policy: what the views are drawn from.
        augment: who makes them.

    Raises:
        TrainError: torchvision is asked for, and not installed.
    """

    unit = "images"

    def __init__(
        self,
        images: Tensor,
        policy: AugmentPolicy,
        *,
        seed: int,
        augment: Augment = Augment.sslkernels,
    ) -> None:
        self.images = images
        self.policy = policy
        self.seed = seed
        self._make: Callable[[Tensor, Tensor, int], Tensor] = self._by_sslkernels
        if augment == Augment.torchvision:
            self._make = by_torchvision.Maker(policy, views=VIEWS, seed=seed)

    def __len__(self) -> int:
        return len(self.images)

    def batch(self, index: Tensor, epoch: int) -> Tensor:
        """Views [2, B, C, h, w] of images `index`."""
        return self._make(self.images[index], index, epoch)

    def _by_sslkernels(self, images: Tensor, ids: Tensor, epoch: int) -> Tensor:
        return sslkernels.augment(
            images, self.policy, views=VIEWS, seed=self.seed, epoch=epoch, sample_ids=ids
        )
