"""SigLIP's loss: every pair of an image and a text is a yes-or-no question of its own."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks, distributed
from sslkernels.distributed import ring
from sslkernels.losses import joint
from sslkernels.losses.rows import unit_rows
from sslkernels.similarity import reference as similarity_reference
from sslkernels.similarity.sigmoid import sigmoid_loss


def siglip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    *,
    normalize: bool = True,
    group: object | None = None,
    exchange: str = "gather",
) -> Tensor:
    """The sigmoid loss `-sum_ij log sigmoid(y_ij s_ij) / N`.

    With s_ij = logit_scale * <image_i, text_j> + logit_bias, and y_ij 1 for i = j, else -1. The
    [N, N] logits are never stored. The gradients come with the value from one pass over the logits:
    3 matrix products of N x N x D, as many as dense code, and 1 without a gradient.

    Args:
        image, text: [N, D], row i of one belongs to row i of the other; float64, float32, bfloat16
            or float16. float32 is cast under autocast.
        logit_scale: the factor itself, not its logarithm; a positive float, or a floating tensor
            with one element to get its gradient. The paper starts at 10.
        logit_bias: a float, or a floating tensor with one element to get its gradient. The paper
            starts at -10.
        normalize: divide each row by its norm first (`torch.nn.functional.normalize`).
        group: a `torch.distributed` process group, `torch.distributed.group.WORLD` for all ranks:
            the loss of the joint batch of its ranks, which may bring different numbers of rows,
            or none. Each rank returns its own rows' part, its images against
            all texts. The average over the ranks, of the losses as of all gradients, is that of one
            process with the joint batch, which is what DistributedDataParallel makes of it; where
            gradients are summed instead, divide the loss by the number of ranks. Every rank must
            call, and call backward. Breaks the graph of torch.compile.
        exchange: with group, how the ranks' keys meet: "gather", all on every rank; or "ring", in
            turn, so that a rank holds no more than its own texts, two others' and their gradients,
            in one round and for the same products.

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

    Paper: Sigmoid Loss for Language Image Pre-Training, arXiv 2303.15343.
    """
    if group is not None:
        return _joint_outside_graphs(
            image, text, logit_scale, logit_bias, normalize, group, exchange
        )
    q, k = _checked(image, text, logit_scale, logit_bias, exchange)
    if normalize:
        q, k = unit_rows(q), unit_rows(k)
    return sigmoid_loss(q, k, logit_scale, logit_bias, reduction="mean")


def reference(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    *,
    normalize: bool = True,
) -> Tensor:
    """The definition: dense, plain PyTorch, computed in the dtype of the inputs.

    Stores all logits. Arguments as for `siglip_loss`, of any floating dtype, and not checked.
    """
    if normalize:
        image, text = F.normalize(image, dim=1), F.normalize(text, dim=1)
    return similarity_reference.sigmoid_loss(image, text, logit_scale, logit_bias, reduction="mean")


def _checked(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    exchange: str,
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    op = "siglip_loss"
    joint.check_exchange(op, exchange)
    towers = checks.views(op, image, text, "image", "text", may_be_empty=may_be_empty)
    checks.positive_scalar(op, "logit_scale", logit_scale, image, "image")
    checks.finite_scalar(op, "logit_bias", logit_bias, image, "image")
    return towers


def _joint(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    normalize: bool,
    group: object,
    exchange: str,
) -> Tensor:
    """This rank's part of the loss of the joint batch: its own images against the texts of all."""
    shares, q, k = joint.agreed_towers(
        "siglip_loss",
        group,
        lambda: _checked(image, text, logit_scale, logit_bias, exchange, may_be_empty=True),
        normalize,
        logit_scale=logit_scale,
        logit_bias=logit_bias,
        exchange=exchange,
    )
    if exchange == "ring":
        total = ring.sigmoid_loss_sum(q, k, shares, logit_scale, logit_bias)
    else:
        texts = distributed.gather_rows(k, shares)
        total = sigmoid_loss(q, texts, logit_scale, logit_bias, shares.start)
    return total * shares.row_weight("mean")


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_joint_outside_graphs: Any = torch.compiler.disable(_joint)


backends.compose("siglip_loss", "sigmoid_loss")
