"""Cross entropy of a linear layer's output, whose [N, V] logits are never stored."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import INTEGER_DTYPES, accumulate_dtype
from sslkernels.similarity import reference as similarity_reference
from sslkernels.similarity import terms
from sslkernels.similarity.soft_targets import soft_target_terms


class LossTerms(NamedTuple):
    """What a loss can return besides itself.

    lse: log-sum-exp of every row's logits, shaped as the rows are; 0 where a row is ignored. It
        carries a gradient: detach it before you keep it.
    correct: 0-dim int64, the number of rows whose target logit is the largest. A tie counts.
    """

    lse: Tensor
    correct: Tensor


class Names(NamedTuple):
    """What the caller knows the operator and its tensors by; for errors."""

    op: str
    input: str
    weight: str
    target: str
    bias: str


NAMES = Names("linear_cross_entropy", "input", "linear_weight", "target", "linear_bias")


def linear_cross_entropy(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int | None = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    denominator: float | Tensor | None = None,
    return_terms: bool = False,
) -> Any:
    """`F.cross_entropy(F.linear(input, linear_weight, linear_bias), target, ...)`, fused.

    As `torch.nn.functional.linear_cross_entropy`, extended. With class indices, ignored rows are
    dropped before the product. Departs from torch in that a mean over no rows is 0, not NaN, and
    has zero gradients; class weights that sum to 0 over the rows that count still give NaN. There
    are no K-dimensional weights [V, d_1 ... d_K, D], and no `options`, which set torch's chunks.

    Args:
        input: [N, D], [B, S, D] (any number of leading dimensions) or [D]; float64, float32,
            bfloat16 or float16. float32 is cast under autocast.
        linear_weight: [V, D] with the dtype and device of input.
        target: class indices, integers in [0, V) or ignore_index, shaped as input without D; or
            class probabilities, floating and shaped as the logits, which may require a gradient.
        linear_bias: [V] floating; used in the accumulation dtype, also under autocast.
        weight: [V] floating, a factor for each class; without a gradient.
        reduction: "mean", "sum" or "none". The mean of class indices is over the sum of `weight`
            at the targets that count, or their number; that of class probabilities over all rows.
        ignore_index: class indices of this value do not count; None means -100. Only for class
            indices.
        label_smoothing: in [0, 1], the share of the uniform distribution in the target.
        z_loss: at least 0; adds z_loss * lse^2 to the loss of each row that counts, without the
            class weight.
        softcap: logits become softcap * tanh(logits / softcap).
        denominator: for "mean", replaces what the sum over the rows is divided by: a positive
            float or a tensor with one element, say the number of targets in all the batches
            whose gradients are accumulated.
        return_terms: also return LossTerms. For class probabilities, `correct` counts the rows
            whose likeliest class has the largest logit.

    Returns:
        The loss, 0-dim or shaped as the rows for "none"; float64 for float64 inputs, else float32.
        With return_terms the pair (loss, LossTerms).

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype; input and linear_weight
            of different dtype; an option that is not a number, or an int for ignore_index.
        ValueError: wrong shapes, sizes or devices; a target out of range (looked at here on the
            CPU outside torch.compile; elsewhere the kernel notices, with a RuntimeError); an
            option out of range; a weight that requires a gradient; denominator without "mean";
            ignore_index with class probabilities.
        RuntimeError: a second derivative was asked for.

    Papers: label smoothing, arXiv 1512.00567; z-loss: PaLM, arXiv 2204.02311; softcap: Gemma 2,
    arXiv 2408.00118.
    """
    return compute(
        NAMES,
        input,
        linear_weight,
        target,
        linear_bias=linear_bias,
        weight=weight,
        reduction=reduction,
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        denominator=denominator,
        return_terms=return_terms,
    )


def reference(
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None = None,
    weight: Tensor | None = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    denominator: float | Tensor | None = None,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Every other implementation is tested against this. Arguments as for
    `linear_cross_entropy`, of any floating dtype, and not checked.
    """
    shape, classes = input.shape[:-1], linear_weight.shape[0]
    logits = F.linear(input, linear_weight, linear_bias).reshape(-1, classes)
    logits = similarity_reference.cap(logits, softcap or 0.0)
    if target.is_floating_point():
        target = target.reshape(-1, classes)
        counted = torch.ones_like(target[:, 0])
        divisor = counted.sum()
    else:
        target = target.reshape(-1)
        counted = (target != ignore_index).to(logits.dtype)
        divisor = counted.sum()
        if weight is not None:
            divisor = (weight[target.clamp(0, classes - 1)] * counted).sum()
    rows = F.cross_entropy(
        logits,
        target,
        weight,
        reduction="none",
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
    )
    rows = rows + z_loss * counted * logits.logsumexp(1) ** 2
    if reduction == "none":
        return rows.reshape(shape)
    if reduction == "sum":
        return rows.sum()
    if denominator is None:
        denominator = torch.where(counted.any(), divisor, 1.0)
    return rows.sum() / denominator


def compute(
    names: Names,
    input: Tensor,
    linear_weight: Tensor,
    target: Tensor,
    *,
    linear_bias: Tensor | None,
    weight: Tensor | None,
    reduction: str,
    ignore_index: int | None,
    label_smoothing: float,
    z_loss: float,
    softcap: float | None,
    denominator: float | Tensor | None,
    return_terms: bool,
) -> Any:
    """`linear_cross_entropy` for a head that calls its arguments by `names`."""
    check_linear(names, input, linear_weight, linear_bias)
    op = names.op
    if weight is not None:
        checks.constant_vector(op, "weight", weight, linear_weight.shape[0], input, names.input)
    checks.reduction(op, reduction)
    checks.number(op, "label_smoothing", label_smoothing, 0.0, 1.0)
    checks.number(op, "z_loss", z_loss, 0.0, math.inf)
    if softcap is not None:
        checks.positive_number(op, "softcap", softcap, input)
    if ignore_index is not None:
        checks.integer(op, "ignore_index", ignore_index)
    denominator = _denominator(names, denominator, reduction, input)
    checks.tensor(op, names.target, target)
    shape = input.shape[:-1]
    q, k = checks.autocast(input), checks.autocast(linear_weight)
    checks.same_dtype(op, names.weight, k, names.input, q)
    q = q.reshape(-1, q.shape[-1])
    options = (linear_bias, weight, label_smoothing, softcap)
    if target.is_floating_point():
        _check_probabilities(names, target, (*shape, k.shape[0]), ignore_index, input)
        rows = _probability_rows(q, k, target.reshape(-1, k.shape[0]), *options)
    else:
        ignored = -100 if ignore_index is None else ignore_index
        checks.integers(op, names.target, target, shape, input, names.input)
        target = target.to(torch.int64)  # a uint8 would take -100 for 156
        checks.indices(op, names.target, target, k.shape[0], ignored)
        rows = _index_rows(q, k, target.reshape(-1), ignored, *options)
    loss = rows.loss + z_loss * rows.lse.square() if z_loss else rows.loss
    if reduction == "none":
        loss = loss.reshape(shape)
    else:
        loss = loss.sum()
        if reduction == "mean":
            loss = loss / (rows.divisor if denominator is None else denominator)
    if not return_terms:
        return loss
    return loss, LossTerms(rows.lse.reshape(shape), rows.correct)


def check_linear(names: Names, input: Tensor, weight: Tensor, bias: Tensor | None) -> None:
    """A linear layer's input, weight and bias, before any cast."""
    checks.tensor(names.op, names.input, input)
    checks.floating(names.op, names.input, input)
    if input.dim() == 0 or input.shape[-1] == 0:
        raise ValueError(
            f"{names.op}: {names.input} must have shape [..., features] with at least one "
            f"feature, got {list(input.shape)}"
        )
    checks.keys(names.op, names.weight, weight, input, names.input)
    if bias is not None:
        checks.vector(names.op, names.bias, bias, weight.shape[0], input, names.input)


class _Rows(NamedTuple):
    """Loss and lse of each row, the mean's divisor, and the number of rows predicted rightly."""

    loss: Tensor
    lse: Tensor
    divisor: Tensor | int
    correct: Tensor


def _index_rows(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    ignored: int,
    bias: Tensor | None,
    weight: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
) -> _Rows:
    classes, dtype = k.shape[0], accumulate_dtype(q.dtype)
    counted = target != ignored
    # The engine's mark for a row that does not count is -1: no other negative may become it.
    column = torch.where(target < 0, classes, target).masked_fill(~counted, -1)
    column_weight = None
    if weight is not None:
        weight = weight.to(dtype)
    if label_smoothing:
        column_weight = q.new_ones(classes, dtype=dtype) if weight is None else weight
    row = terms.unchecked(q, k, column, 1.0, bias, column_weight, softcap)
    loss = row.lse - row.target_logit
    share = counted.to(dtype)
    if weight is not None:
        share = weight[column.clamp(0, classes - 1)].masked_fill(~counted, 0.0)
        loss = loss * share
    if column_weight is not None:
        uniform = row.lse * column_weight.sum() - row.weighted_sum
        loss = (1.0 - label_smoothing) * loss + (label_smoothing / classes) * uniform
    divisor = torch.where(counted.any(), share.sum(), 1.0)
    correct = ((row.target_logit >= row.largest) & counted).sum()
    return _Rows(loss, row.lse, divisor, correct)


def _probability_rows(
    q: Tensor,
    k: Tensor,
    target: Tensor,
    bias: Tensor | None,
    weight: Tensor | None,
    label_smoothing: float,
    softcap: float | None,
) -> _Rows:
    row = soft_target_terms(
        q, k, target, bias=bias, column_weight=weight, smoothing=label_smoothing, softcap=softcap
    )
    loss = row.lse * row.mass - row.expected
    correct = (row.likeliest >= row.largest).sum()
    return _Rows(loss, row.lse, max(1, q.shape[0]), correct)


def _check_probabilities(
    names: Names, target: Tensor, shape: tuple[int, ...], ignore_index: int | None, input: Tensor
) -> None:
    if tuple(target.shape) != shape:
        raise ValueError(
            f"{names.op}: {names.target} must have shape {list(shape)} for class probabilities "
            f"(floating), or {list(shape[:-1])} for class indices (integers), "
            f"got {list(target.shape)} of {str(target.dtype).removeprefix('torch.')}"
        )
    checks.floating(names.op, names.target, target)
    checks.same_device(names.op, names.target, target, names.input, input)
    if ignore_index not in (None, -100):
        raise ValueError(
            f"{names.op}: ignore_index is only for class indices, got {ignore_index} with class "
            f"probabilities in {names.target}"
        )


def _denominator(
    names: Names, value: float | Tensor | None, reduction: str, input: Tensor
) -> float | Tensor | None:
    if value is None:
        return None
    if reduction != "mean":
        raise ValueError(f"{names.op}: denominator is only for reduction 'mean', got {reduction!r}")
    dtype = accumulate_dtype(input.dtype)
    if isinstance(value, Tensor) and value.dtype in INTEGER_DTYPES:
        value = value.to(dtype)
    checks.positive_scalar(names.op, "denominator", value, input, names.input)
    return value.reshape(()).to(input.device, dtype) if isinstance(value, Tensor) else value


backends.compose("linear_cross_entropy", "logit_terms")
