"""NT-Xent, the contrastive loss of SimCLR, and its decoupled variant DCL."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F


def reference(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores the full [2N, 2N] matrix of logits. Every other implementation is tested against this.
    """
    n = z1.shape[0]
    z = torch.cat([z1, z2])
    if normalize:
        z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    rows = torch.arange(2 * n, device=z.device)
    positive = (rows + n) % (2 * n)
    logits = logits.masked_fill(rows[:, None] == rows, float("-inf"))
    if not decoupled:
        return F.cross_entropy(logits, positive, reduction=reduction)
    negatives = logits.masked_fill(positive[:, None] == rows, float("-inf"))
    loss = negatives.logsumexp(1) - logits[rows, positive]
    return {"mean": loss.mean, "sum": loss.sum, "none": lambda: loss}[reduction]()


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
    return_accuracy: bool = False,
    group: object | None = None,
) -> Tensor | tuple[Tensor, Tensor]:
    """Normalised temperature-scaled cross entropy over two views of a batch."""
    if group is not None:
        raise NotImplementedError("nt_xent: group is not supported yet, pass None")
    dtype = torch.float64 if z1.dtype == torch.float64 else torch.float32
    options = {"normalize": normalize, "reduction": reduction, "decoupled": decoupled}
    loss = reference(z1.to(dtype), z2.to(dtype), temperature, **options)
    if not return_accuracy:
        return loss
    with torch.no_grad():
        z = torch.cat([z1, z2]).to(dtype)
        z = F.normalize(z, dim=1) if normalize else z
        similarity = (z @ z.T).fill_diagonal_(float("-inf"))
        n = z1.shape[0]
        positive = torch.arange(2 * n, device=z.device).roll(n)
        return loss, (similarity.argmax(1) == positive).to(dtype).mean()
