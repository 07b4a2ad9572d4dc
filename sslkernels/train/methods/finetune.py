"""Fine-tuning: a classifier on the encoder of a finished run, all of it trained with labels.

As in SimCLR, section 6.3 of arXiv 2002.05709 and in BERT: a linear layer on the features, and a
gradient for everything below, or with `--frozen` for the layer alone. Without a run the encoder
starts from nothing, to compare with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, ClassVar

import torch
import typer
from torch import Tensor, nn
from torch.nn import functional as F
from typing_extensions import Self

from sslkernels import AugmentPolicy
from sslkernels.train.arguments import Encoder, EncoderOption, Width
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import features
from sslkernels.train.images import Images
from sslkernels.train.methods.image import PixelMethod
from sslkernels.train.models import small_encoder
from sslkernels.train.views import Shape, small

Run = Annotated[Path | None, typer.Option(help="Folder of a finished run on images.")]
Frozen = Annotated[bool, typer.Option("--frozen", help="Train the linear layer alone.")]


class Finetune(PixelMethod):
    """forward: one view of each image, and its label -> the cross entropy of its class.

    Args:
        names: of the classes.

    Raises:
        TrainError: fewer than two classes; a run that cannot be read, saw images of another shape,
            or comes with a choice of encoder; an option out of its range.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"epochs": 20, "lr": 1e-3}
    classifies = True

    def __init__(
        self,
        shape: Shape,
        names: Sequence[str],
        *,
        run: Run = None,
        frozen: Frozen = False,
        encoder: EncoderOption = Encoder.convnet,
        width: Width = None,
    ) -> None:
        super().__init__()
        if len(names) < 2:
            raise TrainError("the data has no classes, which finetune is about")
        if run is None:
            self.encoder = small_encoder(encoder, shape[0], width)[0]
        elif encoder != Encoder.convnet or width is not None:
            raise TrainError(f"the encoder is that of {run}: --encoder and --width are for no run")
        else:
            self.encoder = encoder_of(run, shape)
        self.frozen = frozen
        self.encoder.requires_grad_(not frozen)
        with torch.no_grad():
            count = self.encoder.eval()(torch.zeros(2, *shape)).shape[1]
        self.head = nn.Sequential(nn.BatchNorm1d(count, affine=False), nn.Linear(count, len(names)))

    @property
    def deployed(self) -> nn.Module:
        return nn.Sequential(self.encoder, self.head)

    @classmethod
    def made_for(cls, facts: Mapping[str, Any], **options: Any) -> Self:
        return cls(tuple(facts["shape"]), facts["names"], **options)

    @classmethod
    def views(cls, shape: Shape) -> tuple[AugmentPolicy, ...]:
        return (small(shape),)

    def train(self, mode: bool = True) -> Finetune:
        super().train(mode)
        if self.frozen:
            self.encoder.eval()
        return self

    def forward(self, batch: dict[str, Tensor], /, turn: str = "loss") -> Tensor:
        return F.cross_entropy(self.head(self.encoder(batch["views"][0])), batch["labels"])

    def measures(self, data: Images) -> dict[str, float]:
        guess = features(self.deployed, data.test).argmax(1)
        return scores(guess, data.test_labels, len(data.names))


def encoder_of(run: Path, shape: Shape) -> nn.Module:
    # Here, since that module knows all methods, this one among them.
    from sslkernels.train.finished import read

    finished = read(Path(run))
    if tuple(finished.facts["shape"]) != tuple(shape):
        raise TrainError(f"{run} saw images of {finished.facts['shape']}, these are {[*shape]}")
    return finished.method.encoder


def scores(guess: Tensor, truth: Tensor, classes: int) -> dict[str, float]:
    """Accuracy, and recall and F1 as means over the classes (0 where a class is never guessed).

    guess, truth: int64 [N].
    """
    table = torch.bincount(truth * classes + guess, minlength=classes**2).view(classes, classes)
    right, known, guessed = table.diag().double(), table.sum(1), table.sum(0)
    present = known > 0
    recall = right / known.clamp(min=1)
    f1 = 2 * right / (known + guessed).clamp(min=1)
    return {
        "accuracy": (right.sum() / len(truth)).item(),
        "recall (mean over classes)": recall[present].mean().item(),
        "F1 (mean over classes)": f1[present].mean().item(),
    }
