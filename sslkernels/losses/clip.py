"""CLIP's loss: every image picks its text and every text its image."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.losses import joint
from sslkernels.losses.reweighted import against
from sslkernels.losses.rows import row_dots, unit_rows
from sslkernels.similarity.op import scale_tensor
from sslkernels.similarity.pairs import pair_terms


def clip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    *,
    logit_bias: float | Tensor | None = None,
    normalize: bool = True,
    group: object | None = None,
    exchange: str = "gather",
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
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of rows,
            or none. Each rank returns its own rows' part, its images against
            all texts and its texts against all images. The average over the ranks, of the losses
            as of all gradients, is that of one process with the joint batch, which is what
            DistributedDataParallel makes of it; where gradients are summed instead, divide the loss
            by the number of ranks. Every rank must call, and call backward. Breaks the graph of
            torch.compile.
        exchange: with group, how the ranks' keys meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own and two others'.

    Returns:
        The loss, 0-dim; float64 for float64 inputs, else float32.

    Raises:
        TypeError: image or text is not a dense floating tensor, or their dtypes differ; a scale or
            bias that is neither a number nor a tensor.
        ValueError: image and text are not 2-D, are empty, or differ in shape or device; a scale
            that is not positive and finite, a bias that is not finite (looked at where that is
            free: a float, or a CPU tensor outside torch.compile); an unknown exchange; a group that
            was destroyed or that this process is not in; on every rank alike, ranks that differ in
            the width of their rows, in an argument, or in what requires a gradient.
        RuntimeError: a second derivative was asked for; another rank's arguments are wrong; other
            ranks, which it names, did not call within the timeout of group.

    Paper: CLIP, arXiv 2103.00020.
    """
    if group is not None:
        return _joint_outside_graphs(
            image, text, logit_scale, logit_bias, normalize, group, exchange
        )
    q, k = _checked(image, text, logit_scale, logit_bias, exchange)
    if normalize:
        q, k = unit_rows(q), unit_rows(k)
    terms = pair_terms(q, k, logit_scale)
    rows = (terms.row_lse - terms.pair_logit) + (terms.column_lse - terms.pair_logit)
    return _with_bias(0.5 * rows.mean(), logit_bias)


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


def _checked(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor | None,
    exchange: str,
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    op = "clip_loss"
    joint.check_exchange(op, exchange)
    towers = checks.views(op, image, text, "image", "text", may_be_empty=may_be_empty)
    checks.positive_scalar(op, "logit_scale", logit_scale, image, "image")
    if logit_bias is not None:
        checks.finite_scalar(op, "logit_bias", logit_bias, image, "image")
    return towers


def _with_bias(loss: Tensor, logit_bias: float | Tensor | None) -> Tensor:
    """The loss with a gradient of zero for a bias that is a tensor."""
    if not isinstance(logit_bias, Tensor):
        return loss
    return loss + 0.0 * logit_bias.reshape(()).to(loss.device, loss.dtype)


def _joint(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor | None,
    normalize: bool,
    group: object,
    exchange: str,
) -> Tensor:
    """This rank's part of the loss of the joint batch: its own rows against the rows of all."""
    shares, q, k = joint.agreed_towers(
        "clip_loss",
        group,
        lambda: _checked(image, text, logit_scale, logit_bias, exchange, may_be_empty=True),
        normalize,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
        exchange=exchange,
    )
    scale = scale_tensor(logit_scale, q)
    positive = row_dots(q, k) * scale
    # The pair apart: where it is likely, the gradient hangs on what is left beside it.
    by_image = joint.row_lse(q, k, shares, exchange, scale, exclude_own=True)
    by_text = joint.row_lse(k, q, shares, exchange, scale, exclude_own=True)
    total = (against(by_image, positive) + against(by_text, positive)).sum()
    return _with_bias(0.5 * shares.row_weight("mean") * total, logit_bias)


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_joint_outside_graphs: Any = torch.compiler.disable(_joint)


backends.compose("clip_loss", "pair_terms")
