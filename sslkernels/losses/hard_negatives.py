"""SimCLR's loss with debiased and hardness-weighted negatives."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.losses import reweighted
from sslkernels.losses.rows import inverse, reduce, row_dots, unit_rows
from sslkernels.similarity import logsumexp


def hard_negative_nt_xent(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """Contrastive loss over two views whose sum over the negatives is debiased and reweighted.

    With z the 2N rows of z1 and z2, s_ij = <z_i, z_j> / temperature, and the 2N - 2 rows of other
    samples as the negatives of a row,
        R_i = (2N - 2) sum_j exp((1 + beta) s_ij) / sum_j exp(beta s_ij)
        G_i = max((R_i - tau_plus (2N - 2) exp(s_i,positive)) / (1 - tau_plus),
                  (2N - 2) exp(-1 / temperature))
        loss_i = -log(exp(s_i,positive) / (exp(s_i,positive) + G_i)).
    beta = 0 is the debiased loss; beta = tau_plus = 0 is `nt_xent`, which costs less. No [2N, 2N]
    matrix is stored: log R_i is a difference of two log-sum-exps, of the same products at two
    scales. Each costs a symmetric log-sum-exp forward and backward, with beta = 0 there is one.

    A function of its own, not options of `nt_xent`: the sum is an estimate of an expectation, not
    one of the softmax that accuracies, decoupling and one-pass gradients are about.

    Args:
        z1, z2: [N, D] with N of at least 2, one view each; float64, float32, bfloat16 or float16.
            float32 is cast under autocast.
        temperature: a positive float, or a floating tensor with one element to get its gradient.
        beta: hardness, at least 0: each negative weighs exp(beta s). The paper takes 0.5 to 2.
        tau_plus: in [0, 1), the chance that a negative is of the positive's class. Its lower bound
            assumes rows of norm one.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        reduction: "mean" or "sum" over the 2N rows, or "none".

    Returns:
        The loss, 0-dim or [2N] for "none"; float64 for float64 inputs, else float32.

    Raises:
        TypeError: z1 or z2 is not a dense floating tensor, or their dtypes differ; beta or tau_plus
            that is not a float.
        ValueError: z1 and z2 are not 2-D, have fewer than 2 rows, or differ in shape or device; a
            temperature that is not positive and finite; a negative beta; a tau_plus outside [0, 1);
            an unknown reduction.
        RuntimeError: a second derivative was asked for.

    Papers: Contrastive Learning with Hard Negative Samples, arXiv 2010.04592; Debiased Contrastive
    Learning, arXiv 2007.00224.
    """
    op = "hard_negative_nt_xent"
    z1, z2 = checks.views(op, z1, z2)
    checks.positive_scalar(op, "temperature", temperature, z1, "z1")
    checks.reduction(op, reduction)
    reweighted.check(op, beta, tau_plus)
    n = z1.shape[0]
    if n == 1:
        raise ValueError(f"{op}: z1 and z2 must have at least 2 rows, got 1: no negatives")
    scale = inverse(temperature, z1)
    z = torch.cat([z1, z2])
    z = unit_rows(z) if normalize else z
    rows = reweighted.reweighted_rows(
        (row_dots(z[:n], z[n:]) * scale).repeat(2),
        lambda factor: logsumexp(z, scale=factor, exclude=(0, n)),
        scale.new_tensor(2 * n - 2),
        scale,
        beta,
        tau_plus,
    )
    return reduce(rows, reduction)


def reference(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor = 0.5,
    *,
    beta: float = 1.0,
    tau_plus: float = 0.1,
    normalize: bool = True,
    reduction: str = "mean",
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `hard_negative_nt_xent`, of any floating dtype, and not
    checked.
    """
    n = z1.shape[0]
    z = torch.cat([z1, z2])
    if normalize:
        z = F.normalize(z, dim=1)
    logits = z @ z.T / temperature
    row = torch.arange(2 * n, device=z.device)
    same = row[:, None] % n == row % n
    negatives = logits.masked_fill(same, -math.inf)
    positive = logits[row, (row + n) % (2 * n)]
    rows = reweighted.reference_rows(positive, negatives, 1 / temperature, beta, tau_plus)
    return reduce(rows, reduction)


backends.compose("hard_negative_nt_xent", "logsumexp")
