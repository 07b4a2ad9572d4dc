"""`info_nce(group=)`: this rank's part of the loss of the joint batch of several processes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from sslkernels import distributed
from sslkernels.losses import joint
from sslkernels.losses.info_nce_arguments import OP, Arguments
from sslkernels.losses.negatives import SharedKeys, joined


def _joint(
    check: Callable[[], Arguments],
    rows_of: Callable[[Arguments, Any], Tensor],
    facts: dict[str, Any],
    group: object,
    exchange: str,
    reduction: str,
) -> Tensor:
    """Its own rows against the keys of all.

    Args:
        check: makes the arguments, or raises what is wrong with them.
        rows_of: the loss of each row from arguments and shared keys, None for those of this rank.
        facts: arguments that are the same on every rank.
    """
    found: list[Arguments] = []

    def agreed() -> tuple[int, dict[str, Any]]:
        found.append(check())
        a = found[0]
        if a.ids is not None and exchange == "ring":
            raise ValueError(f"{OP}: ids needs exchange='gather'")
        return a.query.shape[0], joint.facts(
            a.query,
            # What stays on its rank may differ.
            query=a.query if exchange == "ring" else None,
            positive=a.positive,
            negatives=a.shared if a.in_batch else a.negatives is not None,
            own_negatives=a.own is not None,
            bias=a.bias,
            ids=a.ids is not None,
            in_batch=a.in_batch,
            exchange=exchange,
            **facts,
        )

    shares = distributed.agree(OP, group, agreed)
    arguments = found[0]
    keys = None
    if arguments.in_batch:
        keys = (_ring if exchange == "ring" else _gathered)(arguments, shares)
    rows = rows_of(arguments, keys)
    return rows if reduction == "none" else rows.sum() * shares.row_weight(reduction)


# What the ranks tell each other is data of this call, and no part of a compiled graph.
loss_outside_graphs: Any = torch.compiler.disable(_joint)


class _RingKeys(NamedTuple):
    """As `SharedKeys`, of all ranks, but for ids."""

    a: Arguments
    shares: distributed.Shares
    apart: distributed.Shares | None  # how the negatives lie on the ranks

    def how_many(self) -> Tensor:
        total = self.shares.total - 1 + (0 if self.apart is None else self.apart.total)
        return self.a.query.new_full((self.a.query.shape[0],), total, dtype=torch.int64)

    def lse(self, scale: Tensor) -> Tensor:
        a, m = self.a, self.a.positive.shape[0]
        of_positives, of_negatives = (None, None) if a.bias is None else (a.bias[:m], a.bias[m:])
        parts = [
            joint.row_lse(
                a.query, a.positive, self.shares, "ring", scale, of_positives, exclude_own=True
            )
        ]
        if a.shared is not None and self.apart is not None:
            parts.append(joint.row_lse(a.query, a.shared, self.apart, "ring", scale, of_negatives))
        return joined(parts)


def _ring(a: Arguments, shares: distributed.Shares) -> _RingKeys:
    apart = None if a.shared is None else distributed.shares_of(a.shared.shape[0], shares)
    return _RingKeys(a, shares, apart)


def _gathered(a: Arguments, shares: distributed.Shares) -> SharedKeys:
    """All positives, then all negatives."""
    m, gather = a.positive.shape[0], distributed.gather_rows
    keys = [gather(a.positive, shares)]
    biases = [] if a.bias is None else [gather(a.bias[:m, None], shares)]
    numbers = [] if a.ids is None else [gather(a.ids[:, None], shares)]
    if a.shared is not None:
        apart = distributed.shares_of(a.shared.shape[0], shares)
        keys.append(gather(a.shared, apart))
        biases += [] if a.bias is None else [gather(a.bias[m:, None], apart)]
        numbers += [] if a.shared_ids is None else [gather(a.shared_ids[:, None], apart)]
    return SharedKeys(
        a.query,
        torch.cat(keys),
        a.ids,
        torch.cat(numbers)[:, 0] if numbers else None,
        shares.start,
        torch.cat(biases)[:, 0] if biases else None,
    )
