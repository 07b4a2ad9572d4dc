"""How much of an encoder is needed: its smallest weights set to zero, and what that costs."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import prune

from sslkernels.train.after.known import accuracy, images_of
from sslkernels.train.data import moved
from sslkernels.train.errors import TrainError
from sslkernels.train.finished import read
from sslkernels.train.images import Images
from sslkernels.train.methods.image import ImageMethod
from sslkernels.train.views import Views

SPARSITIES = (0.0, 0.5, 0.7, 0.8, 0.9, 0.95)
PRUNED = (nn.Linear, nn.Conv2d)


@dataclass(frozen=True)
class Row:
    """What is left at a sparsity.

    weights: that are not zero; loss: the run's own, of the held-out images; knn: accuracy on them,
    None without classes.
    """

    sparsity: float
    weights: int
    loss: float
    knn: float | None


def report(
    run: Path, sparsities: Sequence[float] = SPARSITIES, data: str | None = None
) -> list[Row]:
    """Prune the encoder of a finished run, anew for each sparsity and without training after.

    Args:
        sparsities: shares of the weights that become zero, in [0, 1).
        data: images to measure with; those of the run for None.

    Raises:
        TrainError: a sparsity out of its range; the run or the data cannot be read.
    """
    for sparsity in sparsities:
        if not 0 <= sparsity < 1:
            raise TrainError(f"sparsity is {sparsity}, must be at least 0 and below 1")
    finished = read(run)
    known = images_of(finished, data)
    rows = []
    for sparsity in sparsities:
        method = pruned(finished.method, sparsity)
        weights = sum(int(weight.count_nonzero()) for weight in _weights(method))
        knn = None
        if len(known.names) > 1:
            knn = accuracy(method.encoder, known, classifies=False)
        loss = held_out_loss(method, known, finished.settings["batch_size"])
        rows.append(Row(sparsity, weights, loss, knn))
    return rows


def pruned(method: ImageMethod[Any], sparsity: float) -> ImageMethod[Any]:
    """A copy whose encoder has zeros for the smallest weights of all its linear layers and
    convolutions together, that share of them; biases and normalisations stay.

    Paper: Learning both Weights and Connections for Efficient Neural Networks, arXiv 1506.02626.
    """
    method = copy.deepcopy(method)
    places = [(x, "weight") for x in method.encoder.modules() if isinstance(x, PRUNED)]
    prune.global_unstructured(places, pruning_method=prune.L1Unstructured, amount=sparsity)
    for module, name in places:
        prune.remove(module, name)
    return method


def _weights(method: ImageMethod[Any]) -> list[torch.Tensor]:
    return [x.weight for x in method.encoder.modules() if isinstance(x, PRUNED)]


@torch.no_grad()
def held_out_loss(method: ImageMethod[Any], data: Images, batch_size: int) -> float:
    """The loss of the held-out images in batches of this size, as they are in training; the sum of
    its turns, the mean over the batches. With fewer images than that, of all at once."""
    weight = next(method.parameters())
    views = Views(data.test, method.views(tuple(data.facts["shape"])), seed=0)
    examples = method.examples(views, data.test_labels)
    size = min(batch_size, len(data.test))
    losses = []
    for index in torch.arange(len(data.test) // size * size).split(size):
        batch = moved(examples.batch(index, 0), weight.device, weight.dtype)
        losses.append(sum(method(batch, turn=turn).item() for turn in method.turns))
    return sum(losses) / len(losses)
