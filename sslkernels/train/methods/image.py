"""What methods that learn from images have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from torch import Tensor, nn
from typing_extensions import Self

from sslkernels import AugmentPolicy
from sslkernels.train.arguments import Encoder, EncoderOption, Width
from sslkernels.train.data import Batch
from sslkernels.train.methods import Contrastive, Method
from sslkernels.train.models import small_encoder
from sslkernels.train.views import Drawn, Shape, Views, plain, small

if TYPE_CHECKING:
    from sslkernels.train.images import Images


class ImageMethod(Method[Batch]):
    """A method of images; its constructor takes the shape (channels, height, width) of a view.

    The encoder is [B, C, H, W] -> features [B, D], for images of any size unless it is a ViT.

    Attributes:
        numbers: how many uniform numbers it wants for each image. A batch of methods that want
            them, or labels, is a dict, see `views.Drawn`; else it is the views alone.
        drawn: is a batch such a dict?
        classifies: are what it deploys logits, of the data's classes?
    """

    numbers: int = 0
    drawn: ClassVar[bool] = False
    classifies: ClassVar[bool] = False

    @property
    def deployed(self) -> nn.Module:
        """What is worth a file of its own: the encoder, or all that makes logits of images."""
        return self.encoder

    @classmethod
    def views(cls, shape: Shape) -> tuple[AugmentPolicy, ...]:
        """What each view is drawn from: two alike, unless a method says otherwise."""
        return (small(shape),) * 2

    @classmethod
    def made_for(cls, facts: Mapping[str, Any], **options: Any) -> Self:
        """A method for images of which this is known: see `images.Images.facts`."""
        return cls(tuple(facts["shape"]), **options)

    def examples(self, views: Views, labels: Tensor) -> Any:
        """What it learns from, of views of images and the images' labels."""
        return Drawn(views, labels, self.numbers) if self.drawn else views

    def measures(self, data: Images) -> dict[str, float]:
        """Shares, by name, that the method itself can tell of the held-out images, beside accuracy.
        Called in evaluation mode, without gradients."""
        return {}


class ConvMethod(ImageMethod[Batch]):
    """A method whose encoder is a network of convolutions, which the command line chooses.

    A subclass hands on what it takes as `**network`: the options stand here alone.

    Args:
        channels: of the images that the encoder sees.

    Attributes:
        features: how many the encoder makes of an image, D.

    Raises:
        TrainError: width below 1.
    """

    def __init__(
        self, channels: int, *, encoder: EncoderOption = Encoder.convnet, width: Width = None
    ) -> None:
        super().__init__()
        self.encoder, self.features = small_encoder(encoder, channels, width)


class SiameseMethod(ConvMethod[Tensor], Contrastive[Tensor]):
    """Two views of each image [2, B, C, H, W], encoded together and compared."""


class PixelMethod(ImageMethod[dict[str, Tensor]]):
    """One view of each image, cropped but not recoloured, whose pixels or places are to be told."""

    drawn = True

    @classmethod
    def views(cls, shape: Shape) -> tuple[AugmentPolicy, ...]:
        return (plain(shape),)
