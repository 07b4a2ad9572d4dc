"""SigLIP's loss: every pair of an image and a text is a yes-or-no question of its own."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.losses.rows import unit_rows
from sslkernels.similarity import reference as similarity_reference
from sslkernels.similarity.sigmoid import sigmoid_loss_sum


def siglip_loss(
    image: Tensor,
    text: Tensor,
    logit_scale: float | Tensor,
    logit_bias: float | Tensor,
    *,
    normalize: bool = True,
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

    Returns:
        The loss, 0-dim; float64 for float64 inputs, else float32.

    Raises:
        TypeError: image or text is not a dense floating tensor, or their dtypes differ; a scale or
            bias that is neither a number nor a tensor.
        ValueError: image and text are not 2-D, are empty, or differ in shape or device; a scale
            that is not positive and finite, a bias that is not finite (looked at where that is
            free: a float, or a CPU tensor outside torch.compile).
        RuntimeError: a second derivative was asked for.

    Paper: Sigmoid Loss for Language Image Pre-Training, arXiv 2303.15343.
    """
    op = "siglip_loss"
    q, k = checks.views(op, image, text, "image", "text")
    checks.positive_scalar(op, "logit_scale", logit_scale, image, "image")
    checks.finite_scalar(op, "logit_bias", logit_bias, image, "image")
    if normalize:
        q, k = unit_rows(q), unit_rows(k)
    return sigmoid_loss_sum(q, k, logit_scale, logit_bias) / q.shape[0]


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
    total = similarity_reference.sigmoid_loss_sum(image, text, logit_scale, logit_bias)
    return total / image.shape[0]


backends.compose("siglip_loss", "sigmoid_loss")
