"""Augmentation: from images and a policy to views, exact, replayable and differentiable.

`sslkernels.augment` is the function; the package is reached with `from sslkernels.augment import`.
"""

from sslkernels.augment import policies
from sslkernels.augment.op import augment
from sslkernels.augment.policy import AugmentPolicy

__all__ = ["AugmentPolicy", "augment", "policies"]
