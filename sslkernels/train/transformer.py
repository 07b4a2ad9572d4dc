"""A small pre-LN transformer in plain PyTorch."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslkernels.train.errors import TrainError

HEAD = 32  # features of an attention head


@dataclass(frozen=True)
class Size:
    """How large a transformer is.

    Raises:
        TrainError: a value that no transformer can have, named.
    """

    length: int  # tokens, at most
    width: int  # features of a token
    layers: int

    def __post_init__(self) -> None:
        if self.length < 8:
            raise TrainError(f"length is {self.length}, must be at least 8")
        if self.width < HEAD or self.width % HEAD:
            raise TrainError(f"width is {self.width}, must be a positive multiple of {HEAD}")
        if self.layers < 1:
            raise TrainError(f"layers is {self.layers}, must be at least 1")


class Block(nn.Module):
    """x + attention(LN x), then x + MLP(LN x) (arXiv 2002.04745): trains without a long warm-up."""

    def __init__(self, width: int, causal: bool) -> None:
        super().__init__()
        self.causal = causal
        self.heads = width // HEAD
        self.norm = nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.LayerNorm(width),
            nn.Linear(width, 4 * width),
            nn.GELU(),
            nn.Linear(4 * width, width),
        )

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        """[B, S, D] -> [B, S, D]; mask: bool [B, 1, 1, S], False where nobody may look."""
        q, k, v = self.qkv(self.norm(x)).unflatten(2, (3, self.heads, -1)).unbind(2)
        heads = F.scaled_dot_product_attention(
            q.transpose(1, 2),
            k.transpose(1, 2),
            v.transpose(1, 2),
            attn_mask=mask,
            is_causal=self.causal,
        )
        x = x + self.out(heads.transpose(1, 2).flatten(2))
        return x + self.mlp(x)


class Transformer(nn.Module):
    """Token ids [B, S] -> features [B, S, width]; learned positions and, if any, segments.

    No dropout: in a few passes over its text, a model this small cannot overfit.
    """

    def __init__(self, vocab_size: int, size: Size, *, causal: bool, segments: int = 0) -> None:
        super().__init__()
        self.tokens = nn.Embedding(vocab_size, size.width)
        self.positions = nn.Embedding(size.length, size.width)
        self.segments = nn.Embedding(segments, size.width) if segments else None
        self.blocks = nn.ModuleList(Block(size.width, causal) for _ in range(size.layers))
        self.norm = nn.LayerNorm(size.width)
        self.apply(initialise)
        with torch.no_grad():
            self.positions.weight.copy_(sinusoids(size.length, size.width))

    def forward(
        self, ids: Tensor, segments: Tensor | None = None, real: Tensor | None = None
    ) -> Tensor:
        """segments: int64 [B, S]; real: bool [B, S], False for padding, which is not looked at."""
        x = self.tokens(ids) + self.positions(torch.arange(ids.shape[1], device=ids.device))
        if self.segments is not None:
            x = x + self.segments(segments)
        mask = None if real is None else real[:, None, None, :]
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x)


def initialise(module: nn.Module) -> None:
    """Normal, with deviation 1 / sqrt(features that come in).

    The 0.02 that is usual in large models is too little for small ones: attention starts out flat,
    and it takes a whole short run until it tells one token from the next.
    """
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=module.weight.shape[1] ** -0.5)
    if isinstance(module, nn.Linear):
        nn.init.zeros_(module.bias)


def sinusoids(length: int, width: int) -> Tensor:
    """Positions [length, width] of arXiv 1706.03762, rows of length 1, as embeddings have. Learned
    ones start here, where "the token before" means the same at every place."""
    angle = torch.arange(length)[:, None] * 10_000.0 ** -torch.arange(0, 1, 2 / width)
    return torch.cat([angle.sin(), angle.cos()], dim=1) * (2 / width) ** 0.5
