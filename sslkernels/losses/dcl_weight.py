"""DCLW: the weight that decoupled contrastive learning puts on a positive."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels.checks import accumulate_dtype
from sslkernels.losses.rows import reduce


def positive_correction(
    z1: Tensor, z2: Tensor, scale: Tensor, normalize: bool, reduction: str, sigma: float
) -> Tensor:
    """What to add to the decoupled loss, whose positives have weight 1: `(1 - w_i) s_i,positive`.

    [2N] for "none", else 0-dim. Linear in N: the sum over the negatives is the same.

    Paper: Decoupled Contrastive Learning, arXiv 2110.06848.
    """
    dtype = accumulate_dtype(z1.dtype)
    with torch.autocast(z1.device.type, enabled=False):
        z1, z2 = z1.to(dtype), z2.to(dtype)
        if normalize:
            z1, z2 = F.normalize(z1, dim=1), F.normalize(z2, dim=1)
        product = (z1 * z2).sum(1)
        likely = (product.detach() / sigma).softmax(0) * product.shape[0]
        rows = (likely - 1.0) * product * scale  # 1 - w, w = 2 - likely
        return reduce(rows.repeat(2), reduction)
