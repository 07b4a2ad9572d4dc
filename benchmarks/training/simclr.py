"""SimCLR on grey images in memory: two views of each, a small ResNet, NT-Xent, AdamW."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from typing import Any

import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

import sslkernels
from benchmarks.nt_xent import eager_nt_xent
from benchmarks.training.measure import Script
from benchmarks.training.phases import DATA, Clock, step
from sslkernels import AugmentPolicy
from sslkernels.train.models import projection_head, small_encoder

TEMPERATURE = 0.2
LEARNING_RATE = 1e-3
VIEWS = 2
Transform = Callable[[Any], Sequence[Any]]
"""From a PIL image to its views, a tensor each."""
Loss = Callable[..., Tensor]
"""(z1, z2, temperature) -> 0-dim."""

LEAST_SCALE, JITTER, JITTER_PROBABILITY = 0.2, 0.4, 0.8


def policy(size: tuple[int, int]) -> AugmentPolicy:
    """SimCLR's views, for small grey images: nothing to do for saturation, hue and blur."""
    return AugmentPolicy(
        size,
        crop_scale=(LEAST_SCALE, 1.0),
        horizontal_flip=0.5,
        brightness=JITTER,
        contrast=JITTER,
        jitter_probability=JITTER_PROBABILITY,
        mean=(0.5,),
        std=(0.5,),
    )


class SimCLR(Script):
    """The step that all scripts have in common.

    Args:
        name: as reports show it.
        batches: (steps) -> the views [2, B, 1, H, W] of that many batches.
        loss: of the two views' embeddings.
        items: images in a batch.
        precision: "float32", or "bf16": the network under autocast.
        width: channels of the encoder's first layer; its own for None.
    """

    def __init__(
        self,
        name: str,
        batches: Callable[[int], Iterator[Tensor]],
        loss: Loss,
        items: int,
        precision: str,
        width: int | None = None,
    ) -> None:
        torch.manual_seed(0)
        self.name, self.items = name, items
        self.batches, self.loss = batches, loss
        self.half = precision == "bf16"
        encoder, features = small_encoder("strided-resnet", 1, width)
        model = torch.nn.Sequential(encoder, projection_head(features, features, 64))
        self.model = model.to(memory_format=torch.channels_last)  # twice as fast here, for all
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=LEARNING_RATE)

    def run(self, steps: int, clock: Clock) -> None:
        batches = self.batches(steps)
        for _ in range(steps):
            with clock.phase(DATA):
                views = next(batches)
            step(clock, self.optimizer, lambda views=views: self._encode(views), self._compare)

    def _encode(self, views: Tensor) -> Sequence[Tensor]:
        with torch.autocast("cpu", torch.bfloat16, enabled=self.half):
            z = self.model(views.flatten(0, 1))
        return z.float().chunk(VIEWS)

    def _compare(self, z1: Tensor, z2: Tensor) -> Tensor:
        return self.loss(z1, z2, TEMPERATURE)


class InOnePass:
    """Views by `sslkernels.augment`, of a whole batch at once."""

    def __init__(self, images: Tensor, batch: int) -> None:
        self.images, self.batch = images, batch
        self.policy = policy((images.shape[2], images.shape[3]))
        self.epoch = 0

    def __call__(self, steps: int) -> Iterator[Tensor]:
        self.epoch += 1
        for index in _order(len(self.images), self.batch, steps):
            images = self.images[index]
            yield sslkernels.augment(
                images, self.policy, seed=0, epoch=self.epoch, sample_ids=index
            )


class ImageByImage:
    """Views by a transform of a PIL image, in the workers of a DataLoader or, with none, here."""

    def __init__(self, images: Tensor, transform: Transform, batch: int, workers: int) -> None:
        self.batch, self.count = batch, len(images)
        self.order: list[list[int]] = []
        self.loader = DataLoader(
            _Pictures(images, transform),
            batch_sampler=self.order,
            num_workers=workers,
            persistent_workers=workers > 0,
            collate_fn=_collated,
        )

    def __call__(self, steps: int) -> Iterator[Tensor]:
        # The loader goes through the list as it is when it starts, and stops at its end.
        self.order[:] = [index.tolist() for index in _order(self.count, self.batch, steps)]
        return iter(self.loader)


class _Pictures(Dataset[Sequence[Any]]):
    def __init__(self, images: Tensor, transform: Transform) -> None:
        self.images, self.transform = images.squeeze(1).numpy(), transform

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> Sequence[Any]:
        return self.transform(Image.fromarray(self.images[index]))


class _PerView:
    """A transform of an image, once for each view."""

    def __init__(self, transform: Callable[[Any], Tensor]) -> None:
        self.transform = transform

    def __call__(self, image: Any) -> Sequence[Any]:
        return [self.transform(image) for _ in range(VIEWS)]


def _collated(samples: Sequence[Sequence[Any]]) -> Tensor:
    return torch.stack([torch.stack(view) for view in zip(*samples, strict=True)])


def _by_torchvision(size: tuple[int, int]) -> Transform:
    from torchvision.transforms import v2

    steps = [
        v2.RandomResizedCrop(size, scale=(LEAST_SCALE, 1.0)),
        v2.RandomHorizontalFlip(),
        v2.RandomApply([v2.ColorJitter(JITTER, JITTER)], JITTER_PROBABILITY),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
        v2.Normalize([0.5], [0.5]),
    ]
    return _PerView(v2.Compose(steps))


def _by_lightly(size: tuple[int, int]) -> Transform:
    from lightly.transforms.simclr_transform import SimCLRTransform

    return SimCLRTransform(
        input_size=size[0],
        cj_prob=JITTER_PROBABILITY,
        cj_strength=1.0,
        cj_bright=JITTER,
        cj_contrast=JITTER,
        cj_sat=0.0,
        cj_hue=0.0,
        min_scale=LEAST_SCALE,
        random_gray_scale=0.0,
        gaussian_blur=0.0,
        normalize={"mean": [0.5], "std": [0.5]},
    )


def _lightly_loss() -> Loss:
    from lightly.loss import NTXentLoss

    loss = NTXentLoss(temperature=TEMPERATURE)
    return lambda z1, z2, _: loss(z1, z2)


def _order(count: int, batch: int, steps: int) -> Iterator[Tensor]:
    """The numbers of the images of each step, shuffled anew where all have been seen."""

    def forever() -> Iterator[Tensor]:
        while True:
            yield from torch.randperm(count)[: count - count % batch].view(-1, batch)

    return islice(forever(), steps)


def scripts(
    images: Tensor, *, batch: int, workers: int, precision: str, width: int | None
) -> list[Script]:
    """Ours and its rivals, lightly if it is installed, on square images uint8 [N, 1, H, W]."""
    size = (images.shape[2], images.shape[3])

    def made(name: str, batches: Callable[[int], Iterator[Tensor]], loss: Loss) -> Script:
        return SimCLR(name, batches, loss, batch, precision, width)

    def rival(name: str, transform: Transform, loss: Loss, many: int) -> Script:
        batches = ImageByImage(images, transform, batch, many)
        return made(f"{name}, {many} workers", batches, loss)

    ours = made("sslkernels", InOnePass(images, batch), sslkernels.nt_xent)
    eager = [
        rival("torchvision and eager loss", _by_torchvision(size), eager_nt_xent, many)
        for many in dict.fromkeys((workers, 0))
    ]
    if importlib.util.find_spec("lightly") is None:
        return [ours, *eager]
    return [ours, *eager, rival("lightly", _by_lightly(size), _lightly_loss(), workers)]
