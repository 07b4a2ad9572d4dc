"""Noise-contrastive estimation, and word2vec's negative sampling: true pairs against noise."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.rows import reduce, row_dots, unit_rows
from sslkernels.similarity.op import scale_tensor
from sslkernels.similarity.row_products import row_products
from sslkernels.similarity.softplus import softplus_sum


def nce_loss(
    query: Tensor,
    positive: Tensor,
    noise: Tensor,
    *,
    positive_log_prob: Tensor | None = None,
    noise_log_prob: Tensor | None = None,
    scale: float | Tensor = 1.0,
    normalize: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """Logistic loss of telling each query's positive from K samples of a noise distribution.

    With s(x) = scale * <query_i, x> the unnormalised log-probability of x, and K samples x_j of a
    distribution q, `loss_i = -log sigmoid(s(positive_i) - log(K q(positive_i)))
    - sum_j log sigmoid(log(K q(x_j)) - s(x_j))`. For K -> inf its gradient is that of maximum
    likelihood, without a sum over all x. Without log-probabilities K q is taken for 1: word2vec's
    negative sampling.

    Noise [K, D] is shared by all rows: plain PyTorch on every device, one tile of the [N, K] logits
    at a time, 4 matrix products of N x K x D. Noise [N, K, D] is each row's own: each sample meets
    one query, so that the [N, K] logits of a plain batched product are but 1 / D of the samples.

    Args:
        query, positive: [N, D]; float64, float32, bfloat16 or float16. float32 is cast under
            autocast.
        noise: [K, D] or [N, K, D], with the dtype and device of query.
        positive_log_prob, noise_log_prob: log q of each positive, [N] floating, and of each sample,
            [K] or [N, K] as noise; both or none. A model's own bias b_x is part of s(x): pass
            log q(x) - b_x, which carries its gradient.
        scale: a float, or a floating tensor with one element to get its gradient.
        normalize: divide each row by its norm first; NCE's models do not.
        reduction: "mean" or "sum" over the N rows, or "none".

    Returns:
        The loss, 0-dim or [N] for "none"; float64 for float64 inputs, else float32.

    Raises:
        TypeError: a tensor that is not dense or floating; dtypes that differ.
        ValueError: query and positive are not 2-D, are empty, or differ in shape; noise of another
            width, or none; log-probabilities of another shape, or one without the other; different
            devices; a scale that is not positive and finite; an unknown reduction.
        RuntimeError: a second derivative was asked for.

    Papers: Gutmann & Hyvarinen, AISTATS 2010; Mnih & Teh, arXiv 1206.6426; negative sampling:
    arXiv 1310.4546.
    """
    op = "nce_loss"
    q, p = checks.views(op, query, positive, "query", "positive")
    own = isinstance(noise, Tensor) and noise.dim() == 3
    check_keys = checks.row_keys if own else checks.keys
    check_keys(op, "noise", noise, query, "query")
    noise = checks.autocast(noise)
    checks.same_dtype(op, "noise", noise, "query", q)
    checks.positive_scalar(op, "scale", scale, query, "query")
    checks.reduction(op, reduction)
    _check_log_probs(positive_log_prob, noise_log_prob, query, noise)
    if normalize:
        q, p, noise = unit_rows(q), unit_rows(p), unit_rows(noise)
    dtype, scale = accumulate_dtype(q.dtype), scale_tensor(scale, q)
    true, bias = row_dots(q, p) * scale, None
    if positive_log_prob is not None and noise_log_prob is not None:
        log_count = math.log(noise.shape[-2])
        true = true - positive_log_prob.to(dtype) - log_count
        bias = -noise_log_prob.to(dtype) - log_count
    if own:
        logits = row_products(op, q, noise) * scale
        logits = logits if bias is None else logits + bias
        against = -F.logsigmoid(-logits).sum(1)
    else:
        against = softplus_sum(q, noise, scale, bias)
    return reduce(against - F.logsigmoid(true), reduction)


def reference(
    query: Tensor,
    positive: Tensor,
    noise: Tensor,
    *,
    positive_log_prob: Tensor | None = None,
    noise_log_prob: Tensor | None = None,
    scale: float | Tensor = 1.0,
    normalize: bool = False,
    reduction: str = "mean",
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `nce_loss`, of any floating dtype, and not checked.
    """
    if normalize:
        query, positive, noise = (F.normalize(x, dim=-1) for x in (query, positive, noise))
    count = noise.shape[-2]
    noise = noise.expand(query.shape[0], *noise.shape[-2:])
    true = scale * (query * positive).sum(1)
    false = scale * torch.einsum("nd,nkd->nk", query, noise)
    if positive_log_prob is not None and noise_log_prob is not None:
        true = true - (count * positive_log_prob.exp()).log()
        false = false - (count * noise_log_prob.exp()).log()
    targets = torch.cat([torch.ones_like(true)[:, None], torch.zeros_like(false)], 1)
    logits = torch.cat([true[:, None], false], 1)
    rows = F.binary_cross_entropy_with_logits(logits, targets, reduction="none").sum(1)
    return reduce(rows, reduction)


def _check_log_probs(
    positive: Tensor | None, noise: Tensor | None, query: Tensor, samples: Tensor
) -> None:
    op = "nce_loss"
    if (positive is None) != (noise is None):
        missing, given = "positive_log_prob", "noise_log_prob"
        if positive is not None:
            missing, given = given, missing
        raise ValueError(f"{op}: {missing} must be given where {given} is")
    if positive is None or noise is None:
        return
    checks.vector(op, "positive_log_prob", positive, query.shape[0], query, "query")
    checks.floats(op, "noise_log_prob", noise, samples.shape[:-1], query, "query")


backends.compose("nce_loss", "softplus_sum")
