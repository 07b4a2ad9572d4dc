"""A small vision transformer."""

from __future__ import annotations

from torch import Tensor, nn

from sslkernels.train.errors import TrainError
from sslkernels.train.transformer import Block, initialise, sinusoids
from sslkernels.train.views import Shape

MOST_PATCHES = 64


class ViT(nn.Module):
    """Images [B, C, H, W] of one size -> features [B, width], the mean over the patches' tokens.

    Raises:
        TrainError: sides that square patches of no more than a quarter of a side do not fill.

    Paper: An Image is Worth 16x16 Words, arXiv 2010.11929; blocks as in `transformer`.
    """

    def __init__(self, shape: Shape, *, width: int = 64, layers: int = 2) -> None:
        super().__init__()
        channels, height, rest = shape
        self.side = patch_side(height, rest)
        self.count = (height // self.side) * (rest // self.side)
        self.pixels = channels * self.side**2
        self.width = width
        self.embed = nn.Linear(self.pixels, width)
        self.positions = nn.Parameter(sinusoids(self.count, width))
        self.blocks = nn.ModuleList(Block(width, causal=False) for _ in range(layers))
        self.norm = nn.LayerNorm(width)
        self.apply(initialise)

    def patches(self, images: Tensor) -> Tensor:
        """[B, C, H, W] -> [B, count, pixels], row by row."""
        cut = nn.functional.unfold(images, self.side, stride=self.side)
        return cut.transpose(1, 2)

    def tokens(self, images: Tensor, seen: Tensor | None = None) -> Tensor:
        """[B, count, width]; or of the patches `seen` [B, K] alone, [B, K, width]."""
        x = self.embed(self.patches(images) * 2 - 1) + self.positions
        if seen is not None:
            x = x.gather(1, seen[:, :, None].expand(-1, -1, x.shape[2]))
        for block in self.blocks:
            x = block(x, None)
        return self.norm(x)

    def forward(self, images: Tensor) -> Tensor:
        return self.tokens(images).mean(1)


def patch_side(height: int, width: int) -> int:
    """The smallest side of square patches that fill an image in no more than 64 pieces."""
    for side in range(2, min(height, width) // 4 + 1):
        fits = height % side == 0 and width % side == 0
        if fits and (height // side) * (width // side) <= MOST_PATCHES:
            return side
    raise TrainError(
        f"images are {height} x {width}: no square patch fills them in 16 to {MOST_PATCHES} pieces"
    )
