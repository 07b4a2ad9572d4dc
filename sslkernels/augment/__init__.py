"""Augmentation: from images and a policy to views, exact, replayable and differentiable.

`sslkernels.augment` is the function; the rest comes with `from sslkernels.augment import`.
"""

from sslkernels.augment import policies
from sslkernels.augment.collate import AugmentCollate, Indexed
from sslkernels.augment.geometry import apply_to_boxes, apply_to_masks
from sslkernels.augment.grid import show_grid
from sslkernels.augment.op import augment
from sslkernels.augment.policy import AugmentPolicy

__all__ = [
    "AugmentCollate",
    "AugmentPolicy",
    "Indexed",
    "apply_to_boxes",
    "apply_to_masks",
    "augment",
    "policies",
    "show_grid",
]
