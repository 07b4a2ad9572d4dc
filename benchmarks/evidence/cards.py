"""What the makers publish of one card of each architecture: the two roofs over any kernel.

Dense 16-bit products with float32 sums, at the rate of the datasheet, and the bandwidth of the
card's memory. Only their ratio is used here: no kernel is held against a rate.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Card:
    """`teraflops` of dense bfloat16 products, `terabytes` a second of the memory."""

    name: str
    teraflops: float
    terabytes: float
    source: str

    @property
    def flops_per_byte(self) -> float:
        """A kernel with fewer is bound by memory, one with more by its matrix units."""
        return self.teraflops / self.terabytes


CARDS = {
    "sm_80": Card("A100 SXM 80 GB", 312.0, 2.039, "NVIDIA A100 datasheet"),
    "sm_90": Card("H100 SXM", 989.5, 3.35, "NVIDIA H100 datasheet, half of its sparse rate"),
    "sm_100": Card("B200", 2250.0, 8.0, "NVIDIA DGX B200 datasheet, an eighth, half sparse rate"),
    "gfx90a": Card("MI250X", 383.0, 3.2768, "AMD Instinct MI250X datasheet"),
    "gfx942": Card("MI300X", 1307.4, 5.3, "AMD Instinct MI300X datasheet"),
}

MEMORY, MATRIX, CACHES = "memory", "matrix units", "caches"


def roof(card: Card, flops: int, moved: int, fewest: int) -> str:
    """What bounds a kernel of `flops` that moves `moved` bytes where no cache helps, and `fewest`
    where all do."""
    if flops <= card.flops_per_byte * fewest:
        return MEMORY
    return MATRIX if flops > card.flops_per_byte * moved else CACHES
