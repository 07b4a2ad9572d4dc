"""The losses of BERT and GPT: masked tokens, next tokens, next sentences."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.linear_cross_entropy import Names, check_linear, compute


def masked_lm_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    denominator: float | Tensor | None = None,
    return_terms: bool = False,
) -> Any:
    """Mean cross entropy of the vocabulary logits `hidden @ weight.T + bias` at masked tokens.

    Only rows whose label is not ignore_index are computed; if there is none the loss is 0.

    Args:
        hidden: [B, S, D], or any number of leading dimensions.
        weight: [V, D], often the tied input embedding.
        labels: [B, S] integers in [0, V), or ignore_index where nothing was masked.
        bias: [V].
        ignore_index, label_smoothing, z_loss, softcap, denominator, return_terms: as for
            `linear_cross_entropy`.

    Returns, Raises:
        As `linear_cross_entropy` for class indices; lse has the shape of labels.

    Paper: BERT, arXiv 1810.04805.
    """
    names = Names("masked_lm_loss", "hidden", "weight", "labels", "bias")
    checks.integer_tensor(names.op, names.target, labels)  # class probabilities are none
    return compute(
        names,
        hidden,
        weight,
        labels,
        linear_bias=bias,
        weight=None,
        reduction="mean",
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        denominator=denominator,
        return_terms=return_terms,
    )


def causal_lm_loss(
    hidden: Tensor,
    weight: Tensor,
    labels: Tensor,
    *,
    bias: Tensor | None = None,
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    z_loss: float = 0.0,
    softcap: float | None = None,
    denominator: float | Tensor | None = None,
    return_terms: bool = False,
) -> Any:
    """Mean cross entropy of the vocabulary logits with the token that follows each position.

    The position t of hidden predicts the label t + 1 of the same sequence; the last predicts
    nothing. Only the labels are shifted: hidden is not copied for it.

    Args:
        hidden: [B, S, D], or any number of leading dimensions from one on; the last is the time.
        weight: [V, D], often the tied input embedding.
        labels: [B, S] integers, the tokens themselves, or ignore_index for what is not to be
            predicted.
        bias: [V].
        ignore_index, label_smoothing, z_loss, softcap, denominator, return_terms: as for
            `linear_cross_entropy`.

    Returns, Raises:
        As `linear_cross_entropy` for class indices; lse has the shape of labels, and is 0 at the
        last position. ValueError also for hidden without a time dimension.

    Paper: GPT, "Improving Language Understanding by Generative Pre-Training", 2018.
    """
    names = Names("causal_lm_loss", "hidden", "weight", "labels", "bias")
    check_linear(names, hidden, weight, bias)
    if hidden.dim() < 2:
        raise ValueError(
            f"causal_lm_loss: hidden must be [..., time, features], got {list(hidden.shape)}"
        )
    checks.integers(names.op, names.target, labels, hidden.shape[:-1], hidden, names.input)
    checks.integer(names.op, "ignore_index", ignore_index)
    following = labels.to(torch.int64).roll(-1, -1)
    following[..., -1:] = ignore_index
    return compute(
        names,
        hidden,
        weight,
        following,
        linear_bias=bias,
        weight=None,
        reduction="mean",
        ignore_index=ignore_index,
        label_smoothing=label_smoothing,
        z_loss=z_loss,
        softcap=softcap,
        denominator=denominator,
        return_terms=return_terms,
    )


def next_sentence_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """BERT's next-sentence loss: plain PyTorch, since there are two columns and nothing to save.

    Args:
        logits: [N, 2], column 0 for "b follows a"; float64, float32, bfloat16 or float16.
        labels: [N] integers, 0 where b follows a, 1 where it does not.

    Returns:
        The mean cross entropy, 0-dim, 0 for no rows; float64 for float64 logits, else float32.

    Raises:
        TypeError: a tensor that is not dense or of a wrong kind of dtype.
        ValueError: wrong shapes or devices, a label that is neither 0 nor 1.

    Paper: BERT, arXiv 1810.04805.
    """
    op = "next_sentence_loss"
    checks.matrix(op, "logits", logits)
    if logits.shape[1] != 2:
        raise ValueError(f"{op}: logits must have shape [N, 2], got {list(logits.shape)}")
    checks.integers(op, "labels", labels, logits.shape[:1], logits, "logits")
    checks.indices(op, "labels", labels, 2)
    logits = logits.to(accumulate_dtype(logits.dtype))
    # The sum: torch's own mean over no rows is NaN.
    total = F.cross_entropy(logits, labels.to(torch.int64), reduction="sum")
    return total / max(1, logits.shape[0])


backends.compose("masked_lm_loss", "logit_terms")
backends.compose("causal_lm_loss", "logit_terms")
