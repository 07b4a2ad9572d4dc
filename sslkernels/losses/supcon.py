"""SupCon: the contrastive loss whose positives are all rows of the same class."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import checks, distributed
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import joint
from sslkernels.losses.rows import inverse, row_dots, unit_rows
from sslkernels.losses.supcon_native import native_loss, serves
from sslkernels.similarity import logsumexp, weighted_logsumexp


def supcon(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor = 0.1,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    group: object | None = None,
    exchange: str = "gather",
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
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of rows,
            or none, and of whose rows those that count are counted. Each rank returns its own rows'
            part. For "mean" the average over the ranks, of the losses as of all gradients, is that
            of one process with the joint batch, which is what DistributedDataParallel makes of it;
            where gradients are summed instead, divide the loss by the number of ranks. For "sum" it
            is the sum over the ranks. Every rank must call, and call backward. Costs 3 products of
            this rank's rows with all rows. Breaks the graph of torch.compile.
        exchange: with group, how the ranks' rows meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own, two others' and the sum of each class,
            for 4 products.

    Returns:
        The loss, 0-dim or [M] for "none"; float64 for float64 inputs, else float32. The factor
        temperature / base_temperature of the authors' code is left to the caller.

    Raises:
        TypeError: z is not a dense floating tensor; labels that are not integers.
        ValueError: z is not 2-D or is empty; labels of another length or device; a temperature that
            is not positive and finite; an unknown reduction or exchange; a group that was destroyed
            or that this process is not in; on every rank alike, ranks that differ in the width of
            their rows, in an argument, or in what requires a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Paper: Supervised Contrastive Learning, arXiv 2004.11362.
    """
    if group is not None:
        return _joint_outside_graphs(z, labels, temperature, normalize, reduction, group, exchange)
    z = _checked(z, labels, temperature, reduction, exchange)
    m, scale = z.shape[0], inverse(temperature, z)
    if serves(z, scale, reduction):
        return native_loss(z, labels, scale, normalize, reduction)
    z = unit_rows(z) if normalize else z
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


def _checked(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    reduction: str,
    exchange: str,
    *,
    may_be_empty: bool = False,
) -> Tensor:
    op = "supcon"
    checks.matrix(op, "z", z)
    m = z.shape[0]
    if m == 0 and not may_be_empty:
        raise ValueError(f"{op}: z must have at least one row, got {list(z.shape)}")
    checks.integers(op, "labels", labels, (m,), z, "z")
    checks.positive_scalar(op, "temperature", temperature, z, "z")
    checks.reduction(op, reduction)
    joint.check_exchange(op, exchange)
    return checks.autocast(z)


def _class_sums(z: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
    """For each row, how many others have its label [M], and the sum of z over its class [M, D].

    In the accumulation dtype. Shapes do not depend on the labels.
    """
    m, number = z.shape[0], _class_numbers(labels)
    z = z.to(accumulate_dtype(z.dtype))
    size = z.new_zeros(m).index_add(0, number, z.new_ones(m))
    total = z.new_zeros(z.shape).index_add(0, number, z)
    return size[number] - 1.0, total[number]


def _class_numbers(labels: Tensor) -> Tensor:
    """The labels replaced by 0, 1, 2 ... in their order, by sorting."""
    ordered, order = labels.to(torch.int64).sort()
    first = torch.ones_like(ordered)
    first[1:] = (ordered[1:] != ordered[:-1]).to(first.dtype)
    return torch.empty_like(order).scatter(0, order, first.cumsum(0) - 1)


def _joint(
    z: Tensor,
    labels: Tensor,
    temperature: float | Tensor,
    normalize: bool,
    reduction: str,
    group: object,
    exchange: str,
) -> Tensor:
    """This rank's part of the loss of the joint batch: its own rows against the rows of all."""
    checked: list[Tensor] = []

    def check() -> tuple[int, dict[str, Any]]:
        checked.append(_checked(z, labels, temperature, reduction, exchange, may_be_empty=True))
        return z.shape[0], joint.facts(
            checked[0],
            z=checked[0],
            temperature=temperature,
            normalize=bool(normalize),
            reduction=reduction,
            exchange=exchange,
        )

    shares = distributed.agree("supcon", group, check)
    z = unit_rows(checked[0]) if normalize else checked[0]
    scale, wide = inverse(temperature, z), z.to(accumulate_dtype(z.dtype))
    everyone = distributed.gather_rows(labels.to(torch.int64)[:, None], shares)[:, 0]
    number, size = _class_numbers(everyone), everyone.unique(return_counts=True)[1]
    joint_counted = int((size[number] > 1).sum())
    number = number[shares.start : shares.start + z.shape[0]]
    others = (size[number] - 1).to(wide.dtype)
    counted = others > 0
    own = wide.new_zeros(len(size), z.shape[1]).index_add(0, number, wide)
    total = distributed.sum_over_ranks(own, shares)[number]
    positive = (row_dots(z, total) - row_dots(z, z)) * scale / others.clamp_min(1.0)
    # A single row would be left without a column; it does not count.
    several = shares.total > 1
    if reduction == "none":
        rows = joint.row_lse(z, z, shares, exchange, scale, exclude_own=several) - positive
        return rows.masked_fill(~counted, 0.0)
    weight = counted.to(wide.dtype)
    if reduction == "mean":
        weight = weight * (shares.world / max(joint_counted, 1))
    lse = joint.weighted_lse(z, z, shares, exchange, weight, scale, exclude_own=several)
    return lse - (weight * positive).sum()


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_joint_outside_graphs: Any = torch.compiler.disable(_joint)
