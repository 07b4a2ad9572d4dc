"""Augmentation in the workers of a `torch.utils.data.DataLoader`.

policy = sslkernels.policies.simclr()
collate = AugmentCollate(policy, seed=0)
loader = DataLoader(Indexed(dataset), batch_size=256, num_workers=2, collate_fn=collate)
for epoch in range(100):
    collate.set_epoch(epoch)
    for views, labels in loader:
        ...
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from sslkernels.augment import arguments
from sslkernels.augment.op import augment
from sslkernels.augment.policy import AugmentPolicy


class Indexed(Dataset):
    """A map-style data set whose items begin with their number: (index, image, ...)."""

    def __init__(self, dataset: Any) -> None:
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> tuple[Any, ...]:
        item = self.dataset[index]
        return (index, *item) if isinstance(item, tuple) else (index, item)


class AugmentCollate:
    """Collates items (index, image, ...) to (views, ...), with the index as sample id.

    Images may differ in size from item to item. The draws depend on neither the number of workers
    nor the order of the items. An epoch that is set reaches workers that already run; set it
    before the loader's iterator is made.

    Args:
        policy, views, seed: as for `sslkernels.augment`.

    Returns, when called:
        What `augment` returns, [V, B, C, h, w] or a tuple; alone, or in a tuple followed by what
        else the items hold, collated as torch does by default.

    Raises:
        TypeError, ValueError: as `augment`; at the call also an item that is no tuple of an index
            and a tensor [C, H, W].
    """

    def __init__(
        self,
        policy: AugmentPolicy | Sequence[AugmentPolicy],
        *,
        views: int | None = None,
        seed: int,
    ) -> None:
        self.policies = arguments.policies(policy, views, "AugmentCollate")
        arguments.integer("seed", seed, 0, 2**64 - 1)
        self.seed = seed
        # In shared memory: persistent workers hold their own copy of everything else.
        self._epoch = torch.zeros((), dtype=torch.int64).share_memory_()

    @property
    def epoch(self) -> int:
        return int(self._epoch)

    def set_epoch(self, epoch: int) -> None:
        """Draws of the items made from now on are those of this epoch."""
        arguments.integer("epoch", epoch, 0, 2**24 - 1)
        self._epoch.fill_(epoch)

    def __call__(self, items: Sequence[tuple[Any, ...]]) -> Any:
        for item in items:
            if not isinstance(item, tuple) or len(item) < 2 or not isinstance(item[0], int):
                raise TypeError(
                    "AugmentCollate: items must be (index, image, ...), as Indexed makes them, "
                    f"got {type(item).__name__}"
                )
            if not isinstance(item[1], Tensor) or item[1].dim() != 3:
                came = list(item[1].shape) if isinstance(item[1], Tensor) else type(item[1])
                raise TypeError(
                    f"AugmentCollate: images must be tensors [channels, height, width], got {came}"
                )
        ids = torch.tensor([item[0] for item in items])
        images = [item[1] for item in items]
        if len({image.shape for image in images}) == 1:
            views = self._augment(torch.stack(images), ids)
        else:
            views = _join(
                [self._augment(image[None], ids[i : i + 1]) for i, image in enumerate(images)]
            )
        rest = default_collate([item[2:] for item in items]) if len(items[0]) > 2 else []
        return (views, *rest) if rest else views

    def _augment(self, images: Tensor, ids: Tensor) -> Any:
        return augment(images, self.policies, seed=self.seed, epoch=self.epoch, sample_ids=ids)


def _join(parts: list[Any]) -> Any:
    """Results for single images, as one for the batch."""
    if isinstance(parts[0], Tensor):
        return torch.cat(parts, dim=1)
    return tuple(torch.cat(views) for views in zip(*parts, strict=True))
