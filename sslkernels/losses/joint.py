"""What the heads share with `group=`: this rank's rows against the keys of all ranks."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from sslkernels import distributed
from sslkernels.distributed import ring
from sslkernels.losses.rows import unit_rows
from sslkernels.similarity import logsumexp, weighted_logsumexp

EXCHANGES = ("gather", "ring")


def check_exchange(op: str, exchange: object) -> None:
    """`exchange` is one of the ways that keys meet rows."""
    if exchange not in EXCHANGES:
        wanted = ", ".join(EXCHANGES)
        raise ValueError(f"{op}: exchange must be one of {wanted}, got {exchange!r}")


def facts(rows: Tensor, **arguments: object) -> dict[str, Any]:
    """What every rank must have in common: dtype and width of the rows, and the arguments.

    Of a tensor only its being one, and whether it requires a gradient: collectives run, or do not,
    in every rank's backward.
    """
    common: dict[str, Any] = {
        "dtype": str(rows.dtype).removeprefix("torch."),
        "width": rows.shape[1],
    }
    for name, value in arguments.items():
        if isinstance(value, Tensor):
            common[name] = "tensor with gradient" if wants_gradient(value) else "tensor"
        else:
            common[name] = value
    return common


def wants_gradient(*tensors: Tensor) -> bool:
    return torch.is_grad_enabled() and any(x.requires_grad for x in tensors)


def agreed_towers(
    op: str,
    group: object,
    check: Callable[[], tuple[Tensor, Tensor]],
    normalize: bool,
    **arguments: object,
) -> tuple[distributed.Shares, Tensor, Tensor]:
    """How the pairs lie on the ranks, and this rank's images and texts, normalised if asked for.

    Args:
        check: gives images and texts, or raises what is wrong with this rank's arguments.
        arguments: what must be the same on every rank, by name.
    """
    towers: list[Tensor] = []

    def checked() -> tuple[int, dict[str, Any]]:
        image, text = check()
        towers.extend((image, text))
        common = facts(image, image=image, text=text, normalize=bool(normalize), **arguments)
        return image.shape[0], common

    shares = distributed.agree(op, group, checked)
    image, text = (unit_rows(x) if normalize else x for x in towers)
    return shares, image, text


def row_lse(
    q: Tensor,
    k: Tensor,
    shares: distributed.Shares,
    exchange: str,
    scale: Tensor,
    bias: Tensor | None = None,
    exclude_own: bool = False,
) -> Tensor:
    """The log-sum-exp of each of this rank's rows over the keys of all ranks.

    Args:
        q, k: [m, D], of one dtype; k are the keys of this rank.
        bias: [m], added to the columns of this rank's keys.
        exclude_own: key i of this rank does not count for its row i.

    Returns:
        [m] in the accumulation dtype.
    """
    if exchange == "ring":
        return ring.logsumexp(q, k, shares, scale=scale, bias=bias, exclude=_own(exclude_own, 0))
    keys, key_bias = _gathered(k, bias, shares)
    own = _own(exclude_own, shares.start)
    return logsumexp(q, keys, scale=scale, bias=key_bias, exclude=own)


def weighted_lse(
    q: Tensor,
    k: Tensor,
    shares: distributed.Shares,
    exchange: str,
    weight: Tensor,
    scale: Tensor,
    exclude_own: bool = False,
) -> Tensor:
    """`sum_i weight_i * row_lse_i`, 0-dim, for a product less where the keys are gathered."""
    if exchange == "ring":
        lse = row_lse(q, k, shares, exchange, scale, exclude_own=exclude_own)
        return (weight * lse).sum()
    keys = distributed.gather_rows(k, shares)
    own = _own(exclude_own, shares.start)
    return weighted_logsumexp(q, keys, weight, scale=scale, exclude=own)


def _own(exclude: bool, start: int) -> Sequence[int]:
    return (start,) if exclude else ()


def _gathered(
    k: Tensor, bias: Tensor | None, shares: distributed.Shares
) -> tuple[Tensor, Tensor | None]:
    keys = distributed.gather_rows(k, shares)
    return keys, None if bias is None else distributed.gather_rows(bias[:, None], shares)[:, 0]
