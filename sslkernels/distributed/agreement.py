"""Before any row travels: the ranks tell each other what they hold, and fail together.

A collective whose ranks bring different shapes or dtypes hangs, or reads what is not there. So
each call begins with one exchange of `HEADER` bytes a rank, with what must be the same everywhere,
how many rows there are, or that this rank's arguments are wrong.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.distributed as dist

from sslkernels.distributed import collectives
from sslkernels.distributed.meeting import listed, meeting

HEADER = 512
"""Bytes that a rank sends to the others before its rows."""

_LONGEST_PROBLEM = 200  # characters of an error's message that fit, whatever they are escaped to


@dataclass(frozen=True)
class Shares:
    """How the rows of a joint batch lie on the ranks of a group, in the order of the ranks."""

    group: Any
    rank: int
    counts: tuple[int, ...]
    op: str = "sslkernels"  # for messages

    @property
    def world(self) -> int:
        return len(self.counts)

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def start(self) -> int:
        """Where this rank's rows begin."""
        return sum(self.counts[: self.rank])

    def row_weight(self, reduction: str) -> float:
        """What a row counts in this rank's loss.

        For "mean" the average of the ranks' losses, and of their gradients, is that of the joint
        batch, as DistributedDataParallel averages; for "sum" their sum is.
        """
        return self.world / self.total if reduction == "mean" else 1.0


def member(op: str, group: object) -> None:
    """`group` is a process group that this process belongs to, and that still exists."""
    if not dist.is_available():
        raise ValueError(f"{op}: group needs a torch with torch.distributed, this one has none")
    if group is dist.GroupMember.NON_GROUP_MEMBER:
        raise ValueError(f"{op}: this process does not belong to group")
    if not isinstance(group, dist.ProcessGroup):
        raise TypeError(
            f"{op}: group must be a process group of torch.distributed, got {type(group).__name__}"
        )
    try:
        dist.get_backend(group)
    except (ValueError, AssertionError, TypeError):  # differs between releases of torch
        raise ValueError(f"{op}: group has been destroyed") from None


def agree(
    op: str,
    group: Any,
    check: Callable[[], tuple[int, dict[str, Any]]],
) -> Shares:
    """Run this rank's own checks, then compare what they found with the other ranks.

    Args:
        op: the operator's name, for messages.
        group: the process group; every one of its ranks must come here.
        check: validates this rank's arguments and returns the number of its rows and the facts
            that must be the same on every rank, by name: anything that JSON holds.

    Returns:
        How the rows lie on the ranks.

    Raises:
        TypeError, ValueError: group is no process group, is destroyed or does not have this
            process, without a word to the other ranks; whatever `check` raises, once they know; on
            every rank alike: the ranks differ in a fact (TypeError for the dtype), or have no rows.
        RuntimeError: the arguments of another rank are wrong; other ranks, which the message names
            where the group's store can be reached, did not come within the group's timeout.
    """
    member(op, group)
    rank = dist.get_rank(group)
    try:
        rows, facts = check()
    except Exception as problem:
        # The others must not wait for rows that never come.
        _exchange(op, group, {"problem": _fitting(f"{type(problem).__name__}: {problem}")})
        raise
    headers = _exchange(op, group, {"rows": rows, "facts": {"operator": op, **facts}})
    for other, header in enumerate(headers):
        if "problem" in header:
            raise RuntimeError(f"{op}: rank {other} of group raised {header['problem']}")
    _compare(op, [header["facts"] for header in headers])
    counts = tuple(header["rows"] for header in headers)
    if sum(counts) == 0:
        raise ValueError(f"{op}: no rank of group has a row")
    return Shares(group, rank, counts, op)


def shares_of(rows: int, shares: Shares) -> Shares:
    """How other rows, this rank having `rows`, lie on the ranks of `shares`; all must come here."""
    mine = torch.tensor([rows], device=_device(shares.group))
    with meeting(shares.op, shares.group):
        counts = collectives.all_gather(mine, shares.group).tolist()
    return replace(shares, counts=tuple(counts))


def _compare(op: str, facts: Sequence[dict[str, Any]]) -> None:
    names = dict.fromkeys(name for rank in facts for name in rank)
    for name in names:
        ranks: dict[str, list[int]] = {}
        for rank, of_rank in enumerate(facts):
            ranks.setdefault(str(of_rank.get(name, "none")), []).append(rank)
        if len(ranks) > 1:
            found = "; ".join(f"{value} on rank {listed(at)}" for value, at in ranks.items())
            error = TypeError if name == "dtype" else ValueError
            raise error(f"{op}: {name} must be the same on every rank of group, got {found}")


def _exchange(op: str, group: Any, header: dict[str, Any]) -> list[dict[str, Any]]:
    """The headers of all ranks."""
    encoded = json.dumps(header).encode().ljust(HEADER)
    if len(encoded) > HEADER:
        raise RuntimeError(f"{op}: the facts take {len(encoded)} bytes, more than {HEADER}")
    device = _device(group)
    mine = torch.frombuffer(bytearray(encoded), dtype=torch.uint8).to(device)
    world = dist.get_world_size(group)
    with meeting(op, group):
        everything = bytes(collectives.all_gather(mine, group).tolist())
    return [json.loads(everything[r * HEADER : (r + 1) * HEADER]) for r in range(world)]


def _device(group: Any) -> torch.device:
    """Where a collective of this group takes its tensors: the CPU where that is possible."""
    device = {"nccl": "cuda", "xccl": "xpu"}.get(dist.get_backend(group), "cpu")
    if device == "cpu":
        return torch.device(device)
    return torch.device(device, torch.get_device_module(device).current_device())


def _fitting(message: str) -> str:
    """Short enough for a header, in characters that JSON writes in two bytes at most."""
    plain = message.encode("ascii", "replace").decode()[:_LONGEST_PROBLEM]
    return "".join(c if c.isprintable() else " " for c in plain)
