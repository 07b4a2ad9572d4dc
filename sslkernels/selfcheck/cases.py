"""The operators that are checked, each with its definition and inputs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

import sslkernels
from sslkernels import AugmentPolicy, backends
from sslkernels.losses import clip as clip_module
from sslkernels.losses import hard_negatives as hard_negatives_module
from sslkernels.losses import info_nce as info_nce_module
from sslkernels.losses import linear_cross_entropy as linear_cross_entropy_module
from sslkernels.losses import nce as nce_module
from sslkernels.losses import nt_xent as nt_xent_module
from sslkernels.losses import siglip as siglip_module
from sslkernels.losses import supcon as supcon_module
from sslkernels.similarity import reference as similarity_reference

ROWS, FEATURES = 67, 48  # ragged, so that the edges of tiles are checked too


@dataclass(frozen=True)
class Case:
    """An operator, its definition, and the shapes of the tensors that both take.

    `chosen_by` is the dtype of the tensor by which its implementation is chosen, that of the check
    for None.
    """

    op: str
    call: Callable[..., Tensor]
    definition: Callable[..., Tensor]
    shapes: tuple[tuple[int, ...], ...]
    chosen_by: torch.dtype | None = None

    def why_not(self, backend: str, device: torch.device, dtype: torch.dtype) -> str:
        """Why an implementation cannot run here in this dtype, or an empty string if it can."""
        tensor = torch.empty(0, dtype=self.chosen_by or dtype, device=device)
        return backends.why_not(self.op, backend, tensor)


def _target(input: Tensor, weight: Tensor) -> Tensor:
    """A class for each row, every fifth ignored."""
    rows = torch.arange(input.shape[0], device=input.device)
    return (7 * rows % weight.shape[0]).masked_fill(rows % 5 == 0, -100)


def _classes(z: Tensor) -> Tensor:
    """Seven classes, and one of a single row."""
    rows = torch.arange(z.shape[0], device=z.device)
    return (3 * rows % 7).masked_fill(rows == 5, 7)


# Without what jumps or bends where rounding decides: solarize, and hue.
AUGMENTATION = AugmentPolicy(
    (16, 27),
    crop_scale=(0.5, 1.0),
    horizontal_flip=0.5,
    rotation=30,
    brightness=0.2,
    contrast=0.2,
    saturation=0.2,
    grayscale=0.2,
    blur_probability=0.5,
    translation=0.1,
    mean=(0.5,),
    std=(0.25,),
    erase_probability=0.5,
)


def _augment_by_definition(images: Tensor) -> Tensor:
    with backends.backend("reference"):
        return sslkernels.augment(images, AUGMENTATION, seed=0)


def _times_masked(x: Tensor) -> Tensor:
    """Masked ids as factors: each of them shows, and the numbers have a gradient."""
    ids = torch.arange(x.numel(), device=x.device).reshape(x.shape) % 89 + 10
    masked, labels = sslkernels.mask_tokens(
        ids, mask_token_id=1, vocab_size=99, probability=0.4, seed=0
    )
    return x * (masked + 3 * labels.clamp_min(0))


def _times_masked_by_definition(x: Tensor) -> Tensor:
    with backends.backend("reference"):
        return _times_masked(x)


CASES = (
    Case(
        "nt_xent",
        lambda z1, z2: sslkernels.nt_xent(z1, z2, 0.2),
        lambda z1, z2: nt_xent_module.reference(z1, z2, 0.2),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "logsumexp",
        lambda q, k: sslkernels.similarity.logsumexp(q, k, scale=0.3, exclude=(0,)),
        lambda q, k: similarity_reference.logsumexp(q, k, scale=0.3, exclude=(0,)),
        ((ROWS, FEATURES), (ROWS + 30, FEATURES)),
    ),
    Case(
        "weighted_logsumexp",
        lambda q, w: sslkernels.similarity.weighted_logsumexp(q, None, w, scale=0.3, exclude=(0,)),
        lambda q, w: similarity_reference.weighted_logsumexp(q, None, w, scale=0.3, exclude=(0,)),
        ((ROWS, FEATURES), (ROWS,)),
    ),
    Case(
        "linear_cross_entropy",
        lambda x, w, b: sslkernels.linear_cross_entropy(
            x, w, _target(x, w), linear_bias=b, label_smoothing=0.1, z_loss=0.01, softcap=20.0
        ),
        lambda x, w, b: linear_cross_entropy_module.reference(
            x, w, _target(x, w), linear_bias=b, label_smoothing=0.1, z_loss=0.01, softcap=20.0
        ),
        ((ROWS, FEATURES), (ROWS + 30, FEATURES), (ROWS + 30,)),
    ),
    Case(
        "info_nce",
        lambda q, p, n, b: sslkernels.info_nce(q, p, n, temperature=0.2, bias=b),
        lambda q, p, n, b: info_nce_module.reference(q, p, n, temperature=0.2, bias=b),
        ((ROWS, FEATURES), (ROWS, FEATURES), (ROWS - 30, FEATURES), (2 * ROWS - 30,)),
    ),
    Case(
        "hard_negative_nt_xent",
        lambda z1, z2: sslkernels.hard_negative_nt_xent(z1, z2, 0.5),
        lambda z1, z2: hard_negatives_module.reference(z1, z2, 0.5),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "nce_loss",
        lambda q, p, n: sslkernels.nce_loss(q, p, n, scale=0.3),
        lambda q, p, n: nce_module.reference(q, p, n, scale=0.3),
        ((ROWS, FEATURES), (ROWS, FEATURES), (ROWS - 30, FEATURES)),
    ),
    Case(
        "clip_loss",
        lambda image, text: sslkernels.clip_loss(image, text, 5.0),
        lambda image, text: clip_module.reference(image, text, 5.0),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "siglip_loss",
        lambda image, text: sslkernels.siglip_loss(image, text, 5.0, -2.0),
        lambda image, text: siglip_module.reference(image, text, 5.0, -2.0),
        ((ROWS, FEATURES), (ROWS, FEATURES)),
    ),
    Case(
        "supcon",
        lambda z: sslkernels.supcon(z, _classes(z), 0.2),
        lambda z: supcon_module.reference(z, _classes(z), 0.2),
        ((ROWS, FEATURES),),
    ),
    Case(
        "augment",
        lambda x: sslkernels.augment(x.sigmoid(), AUGMENTATION, seed=0),
        lambda x: _augment_by_definition(x.sigmoid()),
        ((3, 3, 21, 34),),
    ),
    Case(
        "mask_tokens",
        _times_masked,
        _times_masked_by_definition,
        ((5, ROWS),),
        chosen_by=torch.int64,
    ),
)
