"""CLIP: Learning Transferable Visual Models From Natural Language Supervision.

Radford, Kim, Hallacy et al., 2021 (arXiv 2103.00020). An image and its caption should be close to
each other, and far from the other captions and images of the batch. The captions are made of the
labels' names ("a picture of seven"); the letters are the tokens.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

import sslkernels
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import features
from sslkernels.train.images import Images
from sslkernels.train.methods import Contrastive
from sslkernels.train.methods.image import ConvMethod
from sslkernels.train.models import projection_head
from sslkernels.train.transformer import Size, Transformer
from sslkernels.train.views import Shape, small

LENGTH, WIDTH, OUT = 40, 64, 64


class CLIP(ConvMethod[dict[str, Tensor]], Contrastive[dict[str, Tensor]]):
    """forward: one view of each image, and its label -> CLIP's loss of the images and captions.

    Args:
        names: what the labels 0, 1, ... are called.

    Raises:
        TrainError: fewer than two names; an option out of its range.
    """

    drawn = True
    texts: Tensor

    def __init__(self, shape: Shape, names: Sequence[str], **network: Any) -> None:
        if len(names) < 2:
            raise TrainError("the data has no classes with names, which clip makes captions of")
        super().__init__(shape[0], **network)
        self.head = projection_head(self.features, hidden=self.features, out=OUT)
        self.text = Transformer(256, Size(LENGTH, WIDTH, 1), causal=False)
        self.text_head = nn.Linear(WIDTH, OUT)
        self.log_scale = nn.Parameter(torch.tensor(math.log(1 / 0.07)))
        self.register_buffer("texts", torch.stack([caption(name) for name in names]))

    @classmethod
    def made_for(cls, facts: Mapping[str, Any], **options: Any) -> Self:
        return cls(tuple(facts["shape"]), facts["names"], **options)

    @classmethod
    def views(cls, shape: Shape) -> tuple[Any, ...]:
        return (small(shape),)

    def written(self, texts: Tensor) -> Tensor:
        """Embeddings [B, OUT] of captions, bytes [B, LENGTH]."""
        real = texts != 0
        tokens = self.text(texts, real=real) * real[:, :, None]
        return self.text_head(tokens.sum(1) / real.sum(1, keepdim=True))

    def encode(self, batch: dict[str, Tensor]) -> tuple[Tensor, ...]:
        image = self.head(self.encoder(batch["views"][0]))
        # A learnt scale of 100 at most, as in the paper.
        scale = self.log_scale.clamp(max=math.log(100)).exp()
        return image, self.written(self.texts[batch["labels"]]), scale

    def compare(self, *rows: Tensor) -> Tensor:
        image, text, scale = rows
        return sslkernels.clip_loss(image, text, scale, **self.across)

    def measures(self, data: Images) -> dict[str, float]:
        """Zero-shot: the share of images that are closest to the caption of their own class."""
        image = F.normalize(features(nn.Sequential(self.encoder, self.head), data.test), dim=1)
        text = F.normalize(self.written(self.texts), dim=1).float().cpu()
        right = (image @ text.T).argmax(1) == data.test_labels
        return {"zero-shot by captions": right.double().mean().item()}


def caption(name: str) -> Tensor:
    """Bytes of a caption, int64 [LENGTH], padded with zeros."""
    letters = f"a picture of {name}".encode()[:LENGTH]
    return torch.tensor([*letters, *[0] * (LENGTH - len(letters))])
