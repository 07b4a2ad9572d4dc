"""The negatives of a row: keys that all rows share, and keys of its own."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from sslkernels.similarity import logsumexp
from sslkernels.similarity.excluding import logsumexp_excluding
from sslkernels.similarity.fixed_keys import fixed_keys_logsumexp, wants_no_gradient


class SharedKeys(NamedTuple):
    """Keys [n, D] that all rows q [N, D] share.

    Where `first` is a number, key first + i is row i's positive, and no negative of it.
    """

    q: Tensor
    keys: Tensor
    ids: Tensor | None
    key_ids: Tensor | None
    first: int | None
    bias: Tensor | None

    def how_many(self) -> Tensor:
        """[N] how many of them are negatives of each row."""
        among = self.q.new_full((self.q.shape[0],), self.keys.shape[0], dtype=torch.int64)
        if self.ids is None or self.key_ids is None:
            return among if self.first is None else among - 1
        return among - occurrences(self.ids, self.key_ids)

    def lse(self, scale: Tensor) -> Tensor:
        """[N] log-sum-exp of each row's, -inf where it has none."""
        q, keys, bias = self.q, self.keys, self.bias
        own = () if self.first is None else (self.first,)
        if self.ids is None or self.key_ids is None:
            if self.first is None and wants_no_gradient(keys, bias):
                return fixed_keys_logsumexp(q, keys, scale, bias)
            return logsumexp(q, keys, scale=scale, bias=bias, exclude=own)
        clash = occurrences(self.ids, self.key_ids) > len(own)
        bound = logsumexp_excluding(q, keys, self.ids, self.key_ids, clash, scale, bias)
        free = logsumexp(q, keys, scale=scale, bias=bias, exclude=own)
        return torch.where(clash, bound, free)


class OwnKeys(NamedTuple):
    """K keys of each row's own, as products [N, K] with it; dropped where `same`."""

    products: Tensor
    same: Tensor | None

    def how_many(self) -> Tensor:
        if self.same is None:
            return torch.full_like(self.products[:, 0], self.products.shape[1], dtype=torch.int64)
        return (~self.same).sum(1)

    def lse(self, scale: Tensor) -> Tensor:
        logits = self.products * scale
        if self.same is None:
            return logits.logsumexp(1)
        # A softmax over nothing is NaN, and so would be its gradient.
        none_left = self.same.all(1)
        kept = logits.masked_fill(self.same & ~none_left[:, None], -math.inf)
        return kept.logsumexp(1).masked_fill(none_left, -math.inf)


def joined(parts: list[Tensor]) -> Tensor:
    """The log of the sum of the exponentials; where all are -inf, without NaN in the gradients."""
    if len(parts) == 1:
        return parts[0]
    first, second = parts
    nothing = (first == -math.inf) & (second == -math.inf)
    both = torch.logaddexp(first.masked_fill(nothing, 0.0), second.masked_fill(nothing, 0.0))
    return both.masked_fill(nothing, -math.inf)


def occurrences(ids: Tensor, key_ids: Tensor) -> Tensor:
    """How many of `key_ids` equal each of `ids`, without a matrix of comparisons."""
    ordered = key_ids.sort().values
    return torch.searchsorted(ordered, ids, right=True) - torch.searchsorted(ordered, ids)
