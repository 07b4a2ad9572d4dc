"""NT-Xent, the contrastive loss of SimCLR, and its decoupled variant DCL."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import nt_xent_joint
from sslkernels.losses.contrastive_accuracy import contrastive_accuracy
from sslkernels.losses.dcl_weight import positive_correction
from sslkernels.losses.nt_xent_arguments import check_sigma, checked, joined_rows, scale_of
from sslkernels.losses.nt_xent_native import native_loss
from sslkernels.losses.reweighted import against
from sslkernels.losses.rows import reduce
from sslkernels.similarity import logsumexp, weighted_logsumexp


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
    sigma: float | None = None,
    return_accuracy: bool = False,
    group: object | None = None,
    exchange: str = "gather",
) -> Any:
    """Normalised temperature-scaled cross entropy over two views of a batch.

    With z the 2N rows of z1 and z2, s_ij = <z_i, z_j> / temperature, and the other view of the same
    sample as the positive, `loss_i = log sum_{j != i} exp(s_ij) - s_i,positive`. No [2N, 2N]
    matrix is stored, except in a workspace of at most 4 MiB where that is faster.

    Args:
        z1, z2: [N, D], one view each; float64, float32, bfloat16 or float16. float32 is cast
            under autocast.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the 2N rows, or "none".
        decoupled: leave the positive out of the sum (DCL); needs N of at least 2.
        sigma: with decoupled, weigh the positive of sample i by w_i = 2 - exp(c_i / sigma) /
            mean_j exp(c_j / sigma), c_i = <z1_i, z2_i>, without a gradient of its own (DCLW; the
            paper takes 0.5): `loss_i = log sum_{j != i, positive} exp(s_ij) - w_i s_i,positive`.
        return_accuracy: also return the contrastive accuracy, the share of rows whose positive is
            strictly more similar than every negative. Costs half a product more; no gradient.
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of samples,
            or none. Each rank returns its own rows' part. For "mean" the average over the ranks, of
            the losses as of all gradients, is that of one process with the joint batch, which is
            what DistributedDataParallel makes of it; where gradients are summed instead, divide the
            loss by the number of ranks. For "sum" it is the sum over the ranks. Every rank must
            call, and call backward. Breaks the graph of torch.compile.
        exchange: with group, how the ranks' rows meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own and two others', without
            return_accuracy.

    Returns:
        The loss, 0-dim or [2N] for "none"; float64 for float64 inputs, else float32. With
        `return_accuracy` the pair (loss, accuracy), accuracy a 0-dim tensor of the same dtype;
        with group the average of the accuracies over the ranks is that of the joint batch.

    Raises:
        TypeError: z1 or z2 is not a dense floating tensor, or their dtypes differ; group is no
            process group; the ranks' dtypes differ.
        ValueError: z1 and z2 are not 2-D, are empty, or differ in shape or device; the temperature
            is not positive and finite; an unknown reduction or exchange; decoupled with a single
            sample; sigma without decoupled, with group, or not positive and finite;
            return_accuracy with the ring; a group that was destroyed or that this process
            is not in; on every rank alike, ranks that differ in the width of their rows, in an
            argument, or in what requires a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Papers: SimCLR, arXiv 2002.05709; decoupled: DCL, arXiv 2110.06848.
    """
    if sigma is not None:
        check_sigma(sigma, decoupled, group)
    if group is not None:
        return nt_xent_joint.loss_outside_graphs(
            z1, z2, temperature, normalize, reduction, decoupled, return_accuracy, group, exchange
        )
    z1, z2 = checked(z1, z2, temperature, reduction, exchange)
    if decoupled and z1.shape[0] == 1:
        raise ValueError("nt_xent: decoupled needs at least 2 samples, z1 has 1: no negatives")
    name = backends.choose("nt_xent", z1)
    scale = scale_of(temperature, z1)
    if name == "cpu":
        loss = native_loss(z1.contiguous(), z2.contiguous(), scale, normalize, decoupled, reduction)
    else:
        rounded = name in ("triton", "cuda")
        loss = _composed(z1, z2, scale, normalize, decoupled, reduction, rounded)
    if sigma is not None:
        loss = loss + positive_correction(z1, z2, scale, normalize, reduction, sigma)
    if not return_accuracy:
        return loss
    z = joined_rows(z1.detach(), z2.detach(), normalize)
    return loss, contrastive_accuracy(z, 0, z.shape[0])


def reference(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    decoupled: bool = False,
    sigma: float | None = None,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores the full [2N, 2N] matrix of logits. Every other implementation is tested against this.
    Arguments as for `nt_xent`, of any floating dtype, and not checked.
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
    weight = 1.0
    if sigma is not None:
        cosine = (z[:n] * z[n:]).sum(1).detach().repeat(2)
        weight = 2.0 - (cosine / sigma).exp() / (cosine / sigma).exp().mean()
    loss = negatives.logsumexp(1) - weight * logits[rows, positive]
    if reduction == "none":
        return loss
    return loss.mean() if reduction == "mean" else loss.sum()


def _composed(
    z1: Tensor,
    z2: Tensor,
    scale: Tensor,
    normalize: bool,
    decoupled: bool,
    reduction: str,
    rounded: bool,
) -> Tensor:
    """The loss from the engine's operators, in the accumulation dtype throughout.

    With `rounded` the products take the rows in the dtype of the inputs, as the C++ kernels do.
    """
    n = z1.shape[0]
    z = joined_rows(z1, z2, normalize)
    z = z.to(z1.dtype) if rounded else z
    with torch.autocast(z1.device.type, enabled=False):
        wide = z.to(accumulate_dtype(z1.dtype))
        positive = (wide[:n] * wide[n:]).sum(1) * scale
        if not decoupled:  # the positive apart: where it is likely, the rest is small
            negatives = logsumexp(z, scale=scale, exclude=(0, n))
            return reduce(against(negatives, positive.repeat(2)), reduction)
        if reduction == "none":
            return logsumexp(z, scale=scale, exclude=(0, n)) - positive.repeat(2)
        weight = 1.0 if reduction == "sum" else 0.5 / n
        row_weight = wide.new_full((2 * n,), weight)
        total = weighted_logsumexp(z, None, row_weight, scale=scale, exclude=(0, n))
        return total - (2.0 * weight) * positive.sum()
