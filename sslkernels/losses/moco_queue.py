"""MoCo's queue: the keys of past batches, to be negatives of this one."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from sslkernels import checks, distributed
from sslkernels.losses import joint
from sslkernels.losses.info_nce import info_nce
from sslkernels.losses.rows import unit_rows


def _of_all_ranks(key: Tensor, queue: Tensor, group: object) -> Tensor:
    def check() -> tuple[int, dict[str, Any]]:
        checks.keys("MoCoQueue", "key", key, queue, "the queue")
        return key.shape[0], joint.facts(key, queue=list(queue.shape))

    return distributed.gather_rows(key, distributed.agree("MoCoQueue", group, check))


# What the ranks tell each other is data of this call, and no part of a compiled graph.
_of_all_ranks_outside_graphs: Any = torch.compiler.disable(_of_all_ranks)


class MoCoQueue(nn.Module):
    """A ring of unit keys without gradient, and `sslkernels.info_nce` against them.

        loss = queue(query, key)
        loss.backward()
        queue.enqueue(key)  # after the backward, which may still read the queue

    The buffers are part of the state dict: `keys` [size, features], at first random unit rows as
    in the paper, and `position`, 0-dim int64, the row that is overwritten next. Nothing here waits
    for a GPU, but for what the ranks of `enqueue(key, group=...)` tell each other.

    Args:
        features: D.
        size: how many keys are kept.
        temperature: a positive float.
        device, dtype: of the keys; queries come in this dtype, or under autocast.

    Shape:
        query, key [N, D]; the loss is 0-dim.

    Raises:
        ValueError: features or size below 1, a temperature that is not positive and finite; at the
            call, as `sslkernels.info_nce`.
        TypeError: a dtype that is not floating, sizes that are not ints, a temperature that is not
            a float; at the call, as `sslkernels.info_nce`.

    Paper: MoCo, arXiv 1911.05722.
    """

    keys: Tensor
    position: Tensor

    def __init__(
        self,
        features: int,
        size: int = 65536,
        *,
        temperature: float = 0.07,
        device: torch.device | str | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__()
        for argument, value in (("features", features), ("size", size)):
            checks.integer("MoCoQueue", argument, value)
            if value < 1:
                raise ValueError(f"MoCoQueue: {argument} must be at least 1, got {value}")
        checks.positive_number("MoCoQueue", "temperature", temperature)
        self.temperature = float(temperature)
        keys = torch.randn(size, features, device=device)
        checks.floating("MoCoQueue", "dtype", keys.to(dtype))
        self.register_buffer("keys", F.normalize(keys, dim=1).to(dtype))
        self.register_buffer("position", torch.zeros((), dtype=torch.int64, device=device))

    def forward(self, query: Tensor, key: Tensor) -> Tensor:
        """InfoNCE of each query with its own key against the queue; the key gets no gradient."""
        query, key = checks.views("MoCoQueue", query, key, "query", "key")
        checks.keys("MoCoQueue", "query", query, self.keys, "the queue")
        checks.same_dtype("MoCoQueue", "query", query, "the queue", checks.autocast(self.keys))
        return info_nce(
            unit_rows(query),
            unit_rows(key.detach()),
            self.keys,
            temperature=self.temperature,
            normalize=False,
        )

    @torch.no_grad()
    def enqueue(self, key: Tensor, *, group: object | None = None) -> None:
        """Put in the keys [N, D], normalised, in place of the N oldest; N at most `size`.

        With group, a `torch.distributed` process group, those of all its ranks in their order, N in
        all. Queues that are equal on all ranks at first, as DistributedDataParallel makes them,
        then stay so.

        Raises:
            TypeError: key is not a dense floating tensor; group is no process group; the ranks'
                dtypes differ.
            ValueError: key is not [N, features] with N in [1, size], or on another device; a group
                that was destroyed or that this process is not in; ranks whose queues differ in
                shape.
            RuntimeError: another rank's arguments are wrong; other ranks, which it names, did not
                call within the timeout of group.
        """
        if group is not None:
            key = _of_all_ranks_outside_graphs(key, self.keys, group)
        checks.keys("MoCoQueue", "key", key, self.keys, "the queue")
        size, n = self.keys.shape[0], key.shape[0]
        if n > size:
            raise ValueError(f"MoCoQueue: key must have at most {size} rows, got {n}")
        rows = (self.position + torch.arange(n, device=key.device)) % size
        self.keys.index_copy_(0, rows, unit_rows(key).to(self.keys.dtype))
        self.position.add_(n).remainder_(size)

    def extra_repr(self) -> str:
        size, features = self.keys.shape
        return f"features={features}, size={size}, temperature={self.temperature:g}"
