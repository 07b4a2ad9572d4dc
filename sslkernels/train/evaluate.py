"""How good are the features? Two answers that need no training of the encoder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslkernels.train.errors import require
from sslkernels.train.images import Images

SAMPLED = 2000  # held-out images, where all would take too long; five times as many known


@dataclass(frozen=True)
class Accuracy:
    """Fractions of the held-out images that are classified correctly."""

    knn: float
    linear: float


@torch.no_grad()
def features(encoder: nn.Module, images: Tensor, batch_size: int = 1024) -> Tensor:
    """Features [N, D] on the CPU, in evaluation mode (which is undone).

    images: floating, or uint8, which is divided by 255 as it was for training.
    """
    weight = next(encoder.parameters())
    training = encoder.training
    encoder.eval()
    scale = 1 if images.is_floating_point() else 1 / 255
    out = torch.cat(
        [encoder(batch.to(weight) * scale).float().cpu() for batch in images.split(batch_size)]
    )
    encoder.train(training)
    return out


def knn_accuracy(
    bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor, k: int = 20
) -> float:
    """Weighted vote of the k nearest by cosine, weight exp(cosine / 0.07) (arXiv 1805.01978)."""
    bank = F.normalize(bank, dim=1)
    right = 0
    # In parts: all similarities at once may be more than fits into memory.
    for part, truth in zip(queries.split(1024), labels.split(1024), strict=True):
        nearest, index = (F.normalize(part, dim=1) @ bank.T).topk(min(k, len(bank)), dim=1)
        # Relative to the nearest of all: the factor does not change the vote.
        weight = ((nearest - nearest[:, :1]) / 0.07).exp()
        votes = torch.zeros(len(part), int(bank_labels.max()) + 1)
        votes.scatter_add_(1, bank_labels[index], weight)
        right += int((votes.argmax(dim=1) == truth).sum())
    return right / len(queries)


def linear_accuracy(bank: Tensor, bank_labels: Tensor, queries: Tensor, labels: Tensor) -> float:
    """Logistic regression (scikit-learn) on standardised features."""
    pipeline, preprocessing, linear_model = (
        require(f"sklearn.{name}", "scikit-learn")
        for name in ("pipeline", "preprocessing", "linear_model")
    )
    probe = pipeline.make_pipeline(
        preprocessing.StandardScaler(), linear_model.LogisticRegression(max_iter=1000)
    )
    probe.fit(bank.numpy(), bank_labels.numpy())
    return float(probe.score(queries.numpy(), labels.numpy()))


def evaluate(encoder: nn.Module, data: Images) -> Accuracy:
    """kNN and linear probe on the held-out images, with the training images as reference."""
    known = features(encoder, data.train), data.train_labels
    asked = features(encoder, data.test), data.test_labels
    return Accuracy(knn=knn_accuracy(*known, *asked), linear=linear_accuracy(*known, *asked))


def knn_of(features_of: Callable[[Tensor], Tensor], data: Images, count: int) -> float:
    """kNN accuracy on the first `count` held-out images, by five times as many training images.

    features_of: images uint8 [N, C, H, W] -> features [N, D].
    """
    known = features_of(data.train[: 5 * count]), data.train_labels[: 5 * count]
    return knn_accuracy(*known, features_of(data.test[:count]), data.test_labels[:count])
