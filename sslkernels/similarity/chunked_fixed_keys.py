"""`fixed_keys_logsumexp` in plain PyTorch: the logits exist one tile at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from sslkernels.similarity import chunked


def fixed_keys_forward(
    q: Tensor, k: Tensor, scale: Tensor, bias: Tensor | None, precision: int
) -> tuple[Tensor, Tensor]:
    """lse [M], and the keys that each row expects [M, D]: `sum_j exp(s_ij - lse_i) k_j`.

    Both in the accumulation dtype. `precision` is torch's own setting here.
    """
    q, k, scale, bias = chunked.wide(q, k, scale, bias)
    lse, mean_key = q.new_empty(q.shape[0]), torch.empty_like(q)
    with torch.autocast(q.device.type, enabled=False):
        row_slices, column_slices = chunked.tiles(q.shape[0], k.shape[0], q.dtype)
        for rows in row_slices:
            running = q.new_full((rows.stop - rows.start,), float("-inf"))
            mean = torch.zeros_like(q[rows])
            for columns in column_slices:
                tile = chunked.logits_tile(q, k, scale, bias, (), rows, columns)
                before, running = running, torch.logaddexp(running, tile.logsumexp(1))
                # A row without a column has lse -inf: exp(-inf - 0) is the zero that it wants.
                shift = running.masked_fill(running == float("-inf"), 0.0)
                mean *= (before - shift).exp()[:, None]
                mean.addmm_(tile.sub_(shift[:, None]).exp_(), k[columns])
            lse[rows], mean_key[rows] = running, mean
    return lse, mean_key
