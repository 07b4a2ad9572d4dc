"""CLIP's loss: every image picks its text and every text its image."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.losses.rows import unit_rows
from sslkernels.similarity.pairs import pair_terms


def clip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    *,
    logit_bias: float | Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """The mean of both cross entropies over s_ij = logit_scale * <image_i, text_j> + logit_bias.

    `loss = sum_i (log sum_j exp(s_ij) + log sum_j exp(s_ji) - 2 s_ii) / (2 N)`. No [N, N] matrix is
    stored. Costs 4 matrix products of N x N x D for both directions together: scores, scores again,
    and two gradients; dense code costs 3, and 10 or so passes over the matrix.

    Args:
        image, text: [N, D], row i of one belongs to row i of the other; float64, float32, bfloat16
            or float16. float32 is cast under autocast.
        logit_scale: the factor itself, not its logarithm; a positive float, or a floating tensor
            with one element to get its gradient.
        logit_bias: a float, or a floating tensor with one element. It cancels in a softmax: the
            loss does not depend on it, and its gradient is exactly 0. It is here so that a model
            made for `siglip_loss` trains unchanged.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).

    Returns:
        The loss, 0-dim; float64 for float64 inputs, else float32.

    Raises:
        TypeError: image or text is not a dense floating tensor, or their dtypes differ; a scale or
            bias that is neither a number nor a tensor.
        ValueError: image and text are not 2-D, are empty, or differ in shape or device; a scale
            that is not positive and finite, a bias that is not finite (looked at where that is
            free: a float, or a CPU tensor outside torch.compile).
        RuntimeError: a second derivative was asked for.

    Paper: CLIP, arXiv 2103.00020.
    """
    op = "clip_loss"
    q, k = checks.views(op, image, text, "image", "text")
    checks.positive_scalar(op, "logit_scale", logit_scale, image, "image")
    if logit_bias is not None:
        checks.finite_scalar(op, "logit_bias", logit_bias, image, "image")
    if normalize:
        q, k = unit_rows(q), unit_rows(k)
    terms = pair_terms(q, k, logit_scale)
    rows = (terms.row_lse - terms.pair_logit) + (terms.column_lse - terms.pair_logit)
    loss = 0.5 * rows.mean()
    if isinstance(logit_bias, Tensor):
        loss = loss + 0.0 * logit_bias.reshape(()).to(loss.device, loss.dtype)
    return loss


def reference(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    *,
    logit_bias: float | Tensor | None = None,
    normalize: bool = True,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `clip_loss`, of any floating dtype, and not checked.
    """
    if normalize:
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    logits = logit_scale * image @ text.T
    if logit_bias is not None:
        logits = logits + logit_bias
    target = torch.arange(image.shape[0], device=image.device)
    return (F.cross_entropy(logits, target) + F.cross_entropy(logits.T, target)) / 2


backends.compose("clip_loss", "pair_terms")
