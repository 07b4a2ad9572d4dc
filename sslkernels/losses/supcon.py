"""SupCon: the contrastive loss whose positives are all rows of the same class."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.rows import inverse, row_dots, unit_rows
from sslkernels.similarity import logsumexp, weighted_logsumexp


def supcon(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 0.1,
    *,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Supervised contrastive loss ("L_out") over the rows of z, all views of all samples.

    With s_ij = <z_i, z_j> / temperature and P(i) the other rows with the label of row i,
    `loss_i = log sum_{j != i} exp(s_ij) - mean_{p in P(i)} s_ip`. The sum over the positives is
    the product with the sum of the class, less the row itself, so that neither a matrix of logits
    nor one of labels is stored. Costs 2 matrix products of M x M x D for "mean" and "sum" on the
    CPU, where each pair is computed once; dense code costs 3, and passes over several matrices.

    An anchor without a positive, that is alone in its class, does not count: its loss is 0 and the
    mean is over the anchors that do count. It remains a negative of the others. If none counts, the
    loss is 0 with zero gradients.

    Args:
        z: [M, D]; float64, float32, bfloat16 or float16. float32 is cast under autocast.
        labels: [M] integers of any value.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the anchors that count, or "none".

    Returns:
        The loss, 0-dim or [M] for "none"; float64 for float64 inputs, else float32. The factor
        temperature / base_temperature of the authors' code is left to the caller.

    Raises:
        TypeError: z is not a dense floating tensor; labels that are not integers.
        ValueError: z is not 2-D or is empty; labels of another length or device; a temperature that
            is not positive and finite; an unknown reduction.
        RuntimeError: a second derivative was asked for.

    Paper: Supervised Contrastive Learning, arXiv 2004.11362.
    """
    op = "supcon"
    checks.matrix(op, "z", z)
    m = z.shape[0]
    if m == 0:
        raise ValueError(f"{op}: z must have at least one row, got {list(z.shape)}")
    checks.integers(op, "labels", labels, (m,), z, "z")
    checks.positive_scalar(op, "temperature", temperature, z, "z")
    checks.reduction(op, reduction)
    z = checks.autocast(z)
    z = unit_rows(z) if normalize else z
    scale = inverse(temperature, z)
    others, total = _class_sums(z, labels)
    counted = others > 0
    # The row itself is in the sum of its class.
    positive = (row_dots(z, total) - row_dots(z, z)) * scale / others.clamp_min(1.0)
    # A single row would be left without a column; it does not count.
    exclude = (0,) if m > 1 else ()
    if reduction == "none":
        rows = logsumexp(z, scale=scale, exclude=exclude) - positive
        return rows.masked_fill(~counted, 0.0)
    weight = counted.to(others.dtype)
    if reduction == "mean":
        weight = weight / weight.sum().clamp_min(1.0)
    lse = weighted_logsumexp(z, None, weight, scale=scale, exclude=exclude)
    return lse - (weight * positive).sum()


def reference(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 0.1,
    *,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `supcon`, of any floating dtype, and not checked.
    """
    if normalize:
        z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    self_pair = torch.eye(z.shape[0], dtype=torch.bool, device=z.device)
    positive = (labels[:, None] == labels) & ~self_pair
    log_p = logits - logits.masked_fill(self_pair, float("-inf")).logsumexp(1, keepdim=True)
    others = positive.sum(1)
    rows = -log_p.masked_fill(~positive, 0.0).sum(1) / others.clamp_min(1)
    if reduction == "none":
        return rows
    return rows.sum() if reduction == "sum" else rows.sum() / (others > 0).sum().clamp_min(1)


def _class_sums(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """For each row, how many others have its label [M], and the sum of z over its class [M, D].

    In the accumulation dtype. Classes are numbered by sorting: shapes do not depend on the labels.
    """
    m, dtype = z.shape[0], accumulate_dtype(z.dtype)
    ordered, order = labels.to(torch.int64).sort()
    first = torch.ones_like(ordered)
    first[1:] = (ordered[1:] != ordered[:-1]).to(first.dtype)
    number = torch.empty_like(order).scatter(0, order, first.cumsum(0) - 1)
    z = z.to(dtype)
    size = z.new_zeros(m).index_add(0, number, z.new_ones(m))
    total = z.new_zeros(z.shape).index_add(0, number, z)
    return size[number] - 1.0, total[number]


backends.compose("supcon", "weighted_logsumexp")
