"""Distillation from a teacher's hidden states: neither logits matrix is stored."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.losses.linear_cross_entropy import Names, check_linear
from sslkernels.similarity.divergence import row_divergence

_STUDENT = Names("distillation_loss", "hidden", "weight", "labels", "bias")
_TEACHER = Names("distillation_loss", "teacher_hidden", "teacher_weight", "labels", "teacher_bias")


def distillation_loss(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    temperature: float = 1.0,
    reduction: str = "mean",
    labels: Tensor | None = None,
    ignore_index: int = -100,
) -> Tensor:
    """`temperature^2 * KL(teacher || student)` of the vocabulary distributions, row by row.

    With s = hidden @ weight.T + bias and t likewise for the teacher, the divergence is that of
    softmax(t / temperature) from softmax(s / temperature). The [N, V] logits of neither are
    stored. Plain PyTorch on every device. The teacher gets no gradient, whatever it requires.

    Args:
        hidden: [B, S, D], or any number of leading dimensions; float64, float32, bfloat16 or
            float16. float32 is cast under autocast.
        weight: [V, D] with the dtype and device of hidden.
        teacher_hidden: [B, S, D'], the leading dimensions those of hidden, of any of these dtypes.
        teacher_weight: [V, D'] with the dtype of teacher_hidden.
        bias, teacher_bias: [V] floating.
        temperature: a positive float.
        reduction: "mean" over the rows that count (0 if none does), "sum" or "none".
        labels: integers shaped as the rows; a row counts where its label is not ignore_index.
            None counts every row. Their values are not used otherwise.
        ignore_index: see labels.

    Returns:
        The loss, 0-dim or shaped as the rows for "none", 0 in a row that does not count; float64
        for float64 hidden states, else float32.

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype; hidden states and
            weights of different dtype; a temperature that is not a number, an ignore_index that is
            not an int.
        ValueError: wrong shapes, sizes or devices; a temperature that is not positive and finite;
            an unknown reduction.
        RuntimeError: a second derivative was asked for.

    Paper: Distilling the Knowledge in a Neural Network, arXiv 1503.02531.
    """
    op = "distillation_loss"
    check_linear(_STUDENT, hidden, weight, bias)
    check_linear(_TEACHER, teacher_hidden, teacher_weight, teacher_bias)
    shape = hidden.shape[:-1]
    if teacher_hidden.shape[:-1] != shape:
        raise ValueError(
            f"{op}: teacher_hidden must have the leading dimensions of hidden, {list(shape)}, "
            f"got shape {list(teacher_hidden.shape)}"
        )
    if teacher_weight.shape[0] != weight.shape[0]:
        raise ValueError(
            f"{op}: teacher_weight must have as many rows as weight, {weight.shape[0]}, "
            f"got shape {list(teacher_weight.shape)}"
        )
    checks.same_device(op, "teacher_hidden", teacher_hidden, "hidden", hidden)
    checks.positive_number(op, "temperature", temperature, hidden)
    checks.integer(op, "ignore_index", ignore_index)
    checks.reduction(op, reduction)
    q, k = checks.autocast(hidden), checks.autocast(weight)
    checks.same_dtype(op, "weight", k, "hidden", q)
    teacher_q, teacher_k = checks.autocast(teacher_hidden), checks.autocast(teacher_weight)
    checks.same_dtype(op, "teacher_weight", teacher_k, "teacher_hidden", teacher_q)
    if labels is None:
        counts = torch.ones(shape, dtype=torch.bool, device=q.device)
    else:
        checks.integers(op, "labels", labels, shape, hidden, "hidden")
        counts = labels.to(torch.int64) != ignore_index
    counts = counts.reshape(-1)
    rows = temperature**2 * row_divergence(
        q.reshape(-1, q.shape[-1]),
        k,
        bias,
        teacher_q.reshape(-1, teacher_q.shape[-1]),
        teacher_k,
        teacher_bias,
        counts,
        float(temperature),
    )
    if reduction == "none":
        return rows.reshape(shape)
    return rows.sum() if reduction == "sum" else rows.sum() / counts.sum().clamp_min(1)


def reference(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    bias: Tensor | None = None,
    teacher_bias: Tensor | None = None,
    temperature: float = 1.0,
) -> Tensor:
    """The definition for each row: dense, plain PyTorch, computed in the dtype of the inputs."""
    student = F.log_softmax(F.linear(hidden, weight, bias) / temperature, -1)
    teacher = F.linear(teacher_hidden, teacher_weight, teacher_bias) / temperature
    teacher = F.log_softmax(teacher, -1).detach()
    return temperature**2 * F.kl_div(student, teacher, reduction="none", log_target=True).sum(-1)


backends.compose("distillation_loss", "row_divergence")
