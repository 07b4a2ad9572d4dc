"""GraphSAGE: Inductive Representation Learning on Large Graphs.

Hamilton, Ying, Leskovec, 2017 (arXiv 1706.02216), with the mean aggregator, on the whole graph at
once. Linked nodes should be close to each other, and far from the other ends of the batch's links.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import sslkernels
from sslkernels.train.arguments import Temperature, positive
from sslkernels.train.methods import Contrastive
from sslkernels.train.pairs.table import Pairs

WIDTH, OUT = 64, 32


class Links(Contrastive[Tensor]):
    """forward: linked nodes [B, 2] -> InfoNCE from the one to the other; an end that another link
    of the batch has too is no negative.

    Raises:
        TrainError: a temperature that is not positive and finite.
    """

    defaults: ClassVar[Mapping[str, Any]] = {"data": "stdlib", "epochs": 20, "lr": 5e-3}

    def __init__(self, pairs: Pairs, *, temperature: Temperature = 0.2) -> None:
        super().__init__()
        self.temperature = positive("temperature", temperature)
        self.encoder = GraphSAGE(pairs.lefts, pairs.train)

    def encode(self, batch: Tensor) -> tuple[Tensor, ...]:
        nodes = self.encoder()
        return nodes[batch[:, 0]], nodes[batch[:, 1]], batch[:, 1]

    def compare(self, *rows: Tensor) -> Tensor:
        one, other, numbers = rows
        return sslkernels.info_nce(
            one, other, temperature=self.temperature, ids=numbers, **self.across
        )

    def scores(self, pairs: Pairs) -> Tensor:
        """Cosines of all nodes [nodes, nodes], on the CPU."""
        nodes = F.normalize(self.encoder(), dim=1)
        return (nodes @ nodes.T).float().cpu()


class GraphSAGE(nn.Module):
    """Features [nodes, OUT] of all nodes: two layers of a node's own and its neighbours' mean, on
    an embedding for each node, since these graphs come without features.

    Args:
        nodes: how many.
        links: int64 [N, 2], taken in both directions.
    """

    degree: Tensor
    ends: Tensor

    def __init__(self, nodes: int, links: Tensor) -> None:
        super().__init__()
        ends = torch.cat([links, links.flip(1)]).T.contiguous()
        self.register_buffer("ends", ends, persistent=False)
        degree = torch.bincount(ends[0], minlength=nodes).clamp(min=1)
        self.register_buffer("degree", degree[:, None], persistent=False)
        self.embedding = nn.Parameter(torch.randn(nodes, WIDTH) * WIDTH**-0.5)
        self.layers = nn.ModuleList(nn.Linear(2 * WIDTH, n) for n in (WIDTH, OUT))

    def forward(self) -> Tensor:
        x = self.embedding
        for number, layer in enumerate(self.layers):
            total = torch.zeros_like(x).index_add(0, self.ends[0], x[self.ends[1]])
            x = layer(torch.cat([x, total / self.degree], 1))
            x = F.relu(x) if number == 0 else x
        return x
