"""`nt_xent(group=)`: this rank's part of the loss of the joint batch of several processes."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from sslkernels import distributed
from sslkernels.checks import accumulate_dtype
from sslkernels.distributed import ring
from sslkernels.losses import joint
from sslkernels.losses.contrastive_accuracy import contrastive_accuracy
from sslkernels.losses.nt_xent_arguments import checked, joined_rows, scale_of
from sslkernels.losses.reweighted import against
from sslkernels.similarity import logsumexp, weighted_logsumexp


def _joint(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor,
    normalize: bool,
    reduction: str,
    decoupled: bool,
    return_accuracy: bool,
    group: object,
    exchange: str,
) -> Any:
    """Its own rows against the rows of all."""
    views: list[Tensor] = []

    def check() -> tuple[int, dict[str, Any]]:
        views.extend(checked(z1, z2, temperature, reduction, exchange, may_be_empty=True))
        if return_accuracy and exchange == "ring":
            raise ValueError("nt_xent: return_accuracy needs exchange='gather'")
        return 2 * views[0].shape[0], {
            **joint.facts(views[0], temperature=temperature),
            "gradient": joint.wants_gradient(*views),
            "normalize": bool(normalize),
            "reduction": reduction,
            "decoupled": bool(decoupled),
            "return_accuracy": bool(return_accuracy),
            "exchange": exchange,
        }

    shares = distributed.agree("nt_xent", group, check)
    if decoupled and shares.total == 2:
        raise ValueError(
            "nt_xent: decoupled needs at least 2 samples, the ranks of group have 1: no negatives"
        )
    z1, z2 = views
    n, dtype = z1.shape[0], z1.dtype
    scale, weight = scale_of(temperature, z1), shares.row_weight(reduction)
    # Rounded to the dtype of the inputs, as the fused operators do: half the bytes in 16 bits.
    z = joined_rows(z1, z2, normalize).to(dtype)
    keys = z if exchange == "ring" else distributed.gather_rows(z, shares)
    with torch.autocast(z.device.type, enabled=False):
        wide = z.to(accumulate_dtype(dtype))
        positive = (wide[:n] * wide[n:]).sum(1) * scale
        blocks = _blocks(n, shares.start)
        if decoupled and exchange == "gather" and reduction != "none":
            row_weight = wide.new_full((2 * n,), weight)
            totals = [
                weighted_logsumexp(z[at], keys, row_weight[at], scale=scale, exclude=out)
                for at, out in blocks
            ]
            loss = sum(totals) - (2.0 * weight) * positive.sum()
        else:
            if exchange == "ring":
                negatives = ring.logsumexp(z, z, shares, scale=scale, exclude=(0, n))
            else:
                lse = [logsumexp(z[at], keys, scale=scale, exclude=out) for at, out in blocks]
                negatives = torch.cat(lse)
            positive = positive.repeat(2)
            # Apart, as in one process: where the positive is likely, the rest is small.
            rows = negatives - positive if decoupled else against(negatives, positive)
            loss = rows if reduction == "none" else weight * rows.sum()
    if not return_accuracy:
        return loss
    share = shares.row_weight("mean") * 2 * n
    return loss, share * contrastive_accuracy(keys.detach().to(wide.dtype), shares.start, 2 * n)


# What the ranks tell each other is data of this call, and no part of a compiled graph.
loss_outside_graphs: Any = torch.compiler.disable(_joint)


def _blocks(n: int, start: int) -> list[tuple[slice, tuple[int, int]]]:
    """The 2n rows by views, and the offsets from a row to itself and to its positive."""
    return [(slice(0, n), (start, start + n)), (slice(n, 2 * n), (start + n, start))]
