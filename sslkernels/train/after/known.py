"""Images to measure a finished run with."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.train import images
from sslkernels.train.after.formats import Network
from sslkernels.train.errors import TrainError
from sslkernels.train.evaluate import SAMPLED, knn_of
from sslkernels.train.finished import Finished
from sslkernels.train.images import Images


def images_of(finished: Finished, name: str | None) -> Images:
    """Images by the name of a source or a folder, see `images.load`; of the run's own, for None.

    Raises:
        TrainError: they cannot be read, are not of the shape of those the run has learnt from, or
            of other classes where it has learnt to tell those.
    """
    name = str(finished.settings["data"] if name is None else name)
    shape = finished.facts["shape"]
    found = images.load(name, size=shape[1])
    if list(found.train.shape[1:]) != shape:
        raise TrainError(f"{name} has images of {[*found.train.shape[1:]]}, the run's are {shape}")
    if finished.method.classifies and [*found.names] != finished.facts["names"]:
        raise TrainError(f"{name} has other classes than the run's: {', '.join(found.names)}")
    return found


@torch.no_grad()
def accuracy(network: Network, data: Images, *, classifies: bool) -> float:
    """On a sample of the held-out images: of a network's choice of class, or by the kNN of its
    features."""

    def said(images: Tensor) -> Tensor:
        return torch.cat([network(part / 255) for part in images.split(256)])

    if classifies:
        right = said(data.test[:SAMPLED]).argmax(1) == data.test_labels[:SAMPLED]
        return right.double().mean().item()
    return knn_of(said, data, SAMPLED)
