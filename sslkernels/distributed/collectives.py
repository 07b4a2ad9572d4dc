"""What differs between releases of torch."""

from __future__ import annotations

from typing import Any

import torch.distributed as dist
from torch import Tensor


def all_gather(x: Tensor, group: Any) -> Tensor:
    """The tensors of all ranks, of one shape, concatenated in the order of the ranks."""
    gathered = x.new_empty(dist.get_world_size(group) * x.shape[0], *x.shape[1:])
    # Of one signature; the first name is to replace the second.
    name = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"
    getattr(dist, name)(gathered, x.contiguous(), group=group)
    return gathered
