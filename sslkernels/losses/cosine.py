"""BYOL's and SimSiam's losses: a prediction of one view against the other view as it is."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import backends, checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses.rows import reduce


def byol_loss(
    prediction: Tensor,
    target: Tensor,
    swapped_prediction: Tensor | None = None,
    swapped_target: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """`2 - 2 cos(prediction_i, target_i)`: the squared distance of the unit rows.

    With the swapped pair, where each view is in the other's place, the sum of both, as BYOL trains
    with. The target gets no gradient. Plain PyTorch: no row meets another one, so that there is no
    matrix whose storing could be saved; it reads its inputs and is done.

    Args:
        prediction, swapped_prediction: [N, D], of the online network's predictor; float64, float32,
            bfloat16 or float16. float32 is cast under autocast.
        target, swapped_target: [N, D], of the target network's projector.
        reduction: "mean" or "sum" over the N rows, or "none".

    Returns:
        The loss, 0-dim or [N] for "none"; float64 for float64 inputs, else float32.

    Raises:
        TypeError: a tensor that is not dense and floating; dtypes that differ.
        ValueError: matrices that are not 2-D, are empty, or differ in shape or device; one half of
            the swapped pair without the other; an unknown reduction.

    Paper: BYOL, arXiv 2006.07733.
    """
    pairs = _pairs("byol_loss", prediction, target, swapped_prediction, swapped_target, reduction)
    return reduce(torch.stack([2.0 - 2.0 * _cosines(p, z) for p, z in pairs]).sum(0), reduction)


def simsiam_loss(
    prediction: Tensor,
    target: Tensor,
    swapped_prediction: Tensor | None = None,
    swapped_target: Tensor | None = None,
    *,
    reduction: str = "mean",
) -> Tensor:
    """`-cos(prediction_i, target_i)`; with the swapped pair the mean of both, as SimSiam has it.

    The target, the projection of the other view by the same network, gets no gradient. Plain
    PyTorch, as `byol_loss`.

    Args, Returns, Raises:
        as `byol_loss`.

    Paper: SimSiam, arXiv 2011.10566.
    """
    pairs = _pairs(
        "simsiam_loss", prediction, target, swapped_prediction, swapped_target, reduction
    )
    return reduce(torch.stack([-_cosines(p, z) for p, z in pairs]).mean(0), reduction)


def _pairs(
    op: str,
    prediction: Tensor,
    target: Tensor,
    swapped_prediction: Tensor | None,
    swapped_target: Tensor | None,
    reduction: str,
) -> list[tuple[Tensor, Tensor]]:
    """What is to be compared, checked."""
    checks.reduction(op, reduction)
    pairs = [checks.views(op, prediction, target, "prediction", "target")]
    if swapped_prediction is None and swapped_target is None:
        return pairs
    for name, value in (
        ("swapped_prediction", swapped_prediction),
        ("swapped_target", swapped_target),
    ):
        if value is None:
            raise ValueError(f"{op}: {name} must be given where the other of the swapped pair is")
        checks.views(op, prediction, value, "prediction", name)
    names = ("swapped_prediction", "swapped_target")
    return [*pairs, checks.views(op, swapped_prediction, swapped_target, *names)]


def _cosines(prediction: Tensor, target: Tensor) -> Tensor:
    """[N] in the accumulation dtype; the target is a constant."""
    dtype = accumulate_dtype(prediction.dtype)
    with torch.autocast(prediction.device.type, enabled=False):
        p = F.normalize(prediction.to(dtype), dim=1)
        return (p * F.normalize(target.detach().to(dtype), dim=1)).sum(1)


backends.add("byol_loss", lambda: None)
backends.add("simsiam_loss", lambda: None)
