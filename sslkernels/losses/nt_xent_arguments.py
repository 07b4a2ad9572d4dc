"""What `nt_xent` and its joint form ask of their arguments, and make of them."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from sslkernels import checks
from sslkernels.checks import accumulate_dtype
from sslkernels.losses import joint
from sslkernels.similarity.op import scale_tensor


def checked(
    z1: Tensor,
    z2: Tensor,
    temperature: float | Tensor,
    reduction: str,
    exchange: str,
    *,
    may_be_empty: bool = False,
) -> tuple[Tensor, Tensor]:
    z1, z2 = checks.views("nt_xent", z1, z2, may_be_empty=may_be_empty)
    checks.reduction("nt_xent", reduction)
    joint.check_exchange("nt_xent", exchange)
    checks.positive_scalar("nt_xent", "temperature", temperature, z1, "z1")
    return z1, z2


def check_sigma(sigma: float, decoupled: bool, group: object | None) -> None:
    checks.positive_number("nt_xent", "sigma", sigma)
    if not decoupled:
        raise ValueError("nt_xent: sigma goes with decoupled=True, the loss whose weight it is of")
    if group is not None:
        raise ValueError("nt_xent: sigma must be None with group: its mean is over one process")


def scale_of(temperature: float | Tensor, z1: Tensor) -> Tensor:
    if isinstance(temperature, Tensor):
        return scale_tensor(temperature, z1).reciprocal()
    return scale_tensor(1.0 / temperature, z1)


def joined_rows(z1: Tensor, z2: Tensor, normalize: bool) -> Tensor:
    """The 2N rows in the accumulation dtype."""
    with torch.autocast(z1.device.type, enabled=False):
        z = torch.cat([z1, z2]).to(accumulate_dtype(z1.dtype))
        return F.normalize(z, dim=1) if normalize else z
