"""VICReg: Variance-Invariance-Covariance Regularization for Self-Supervised Learning.

Bardes, Ponce, LeCun, 2021 (arXiv 2105.04906). Views of an image should agree, each feature should
vary over the batch, and no two should vary together.
"""

from __future__ import annotations

from torch import Tensor

import sslkernels
from sslkernels.train.methods.barlow import BarlowTwins


class VICReg(BarlowTwins):
    """forward: two views of each image [2, B, C, H, W] -> VICReg's loss, on those networks."""

    def compare(self, *rows: Tensor) -> Tensor:
        return sslkernels.vicreg_loss(*rows)
