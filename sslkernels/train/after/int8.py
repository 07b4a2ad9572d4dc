"""Linear layers that multiply integers."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from sslkernels.train.errors import TrainError

LARGEST = 127


class Int8Linear(nn.Module):
    """A linear layer whose weights are int8, and whose input becomes so as it comes.

    [..., in] -> [..., out], float32. Every output has a scale of its own, from its weights, and
    every row of the input, from its largest number; both are symmetric (arXiv 2004.09602). Not
    torchao's tensors of the same scheme: a program exported with them needs torchao to load, and
    one with `torch._int_mm` needs torch alone.
    """

    weight: Tensor
    scale: Tensor
    bias: Tensor | None

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        weight, scale = rounded(linear.weight.detach())
        self.register_buffer("weight", weight.T.contiguous())  # int8 [in, out]
        self.register_buffer("scale", scale[:, 0])
        self.register_buffer("bias", None if linear.bias is None else linear.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        rows, scale = rounded(x.flatten(0, -2))
        product = torch.ops.aten._int_mm(rows, self.weight) * scale * self.scale
        product = product if self.bias is None else product + self.bias
        return product.unflatten(0, x.shape[:-1])


def rounded(rows: Tensor) -> tuple[Tensor, Tensor]:
    """int8 and scales [N, 1] of rows [N, K], whose product is as near to them as can be."""
    # A row of zeros is zeros at any scale.
    scale = rows.abs().amax(1, keepdim=True).clamp(min=1e-12) / LARGEST
    return (rows / scale).round().to(torch.int8), scale


def in_int8(network: nn.Module) -> tuple[nn.Module, int]:
    """A copy whose linear layers are `Int8Linear`, and how many they are.

    Raises:
        TrainError: it has none.
    """
    made = copy.deepcopy(network)
    places = [
        (module, name)
        for module in made.modules()
        for name, child in module.named_children()
        if isinstance(child, nn.Linear)
    ]
    if not places:
        raise TrainError(
            "the network has no linear layers, which --int8 is for: convolutions stay as they are"
        )
    for module, name in places:
        setattr(module, name, Int8Linear(getattr(module, name)))
    return made, len(places)
