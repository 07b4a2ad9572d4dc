"""Colorful Image Colorization.

Zhang, Isola, Efros, 2016 (arXiv 1603.08511). The encoder sees an image in grey, and the colour of
each pixel is to be told, as one of 64 classes: 8 x 8 bins of the two colour differences of YCbCr,
where the paper has 313 of Lab.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from sslkernels.train.errors import TrainError
from sslkernels.train.images import Images
from sslkernels.train.methods.image import ConvMethod, PixelMethod
from sslkernels.train.views import Shape

BINS = 8  # of either difference
SPREAD = 0.25  # differences beyond this, of 0.5, are put in the outer bins


class Colourisation(ConvMethod[dict[str, Tensor]], PixelMethod):
    """forward: one view of each image [1, B, 3, H, W] -> the cross entropy of its pixels' colours.

    Raises:
        TrainError: images without colour; an option out of its range.
    """

    def __init__(self, shape: Shape, **network: Any) -> None:
        if shape[0] != 3:
            raise TrainError(f"images have {shape[0]} channel: colourisation wants 3, as in photos")
        super().__init__(1, **network)
        self.encoder = nn.Sequential(Grey(), *self.encoder)
        self.head = nn.Conv2d(self.features, BINS**2, 1)

    def logits(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] -> [B, 64, H, W]."""
        maps = self.head(self.encoder[:-2](images))  # before the mean over the image
        return F.interpolate(maps, images.shape[2:], mode="bilinear")

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        images = batch["views"][0]
        return F.cross_entropy(self.logits(images), colours(images))

    def measures(self, data: Images) -> dict[str, float]:
        right = total = 0
        for part in data.test.split(256):
            images = part.to(self.head.weight) / 255
            guess, truth = self.logits(images).argmax(1), colours(images)
            right, total = right + int((guess == truth).sum()), total + truth.numel()
        return {"pixels coloured rightly": right / total}


class Grey(nn.Module):
    """The luma of BT.601, [B, 3, H, W] -> [B, 1, H, W]."""

    def forward(self, images: Tensor) -> Tensor:
        weights = images.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
        return (images * weights).sum(1, keepdim=True)


def colours(images: Tensor) -> Tensor:
    """The class of every pixel: [B, 3, H, W] in [0, 1] -> int64 [B, H, W]."""
    luma = Grey()(images)[:, 0]
    blue, red = (images[:, 2] - luma) / 1.772, (images[:, 0] - luma) / 1.402
    bins = [((x / SPREAD + 1) / 2 * BINS).long().clamp(0, BINS - 1) for x in (blue, red)]
    return bins[0] * BINS + bins[1]
