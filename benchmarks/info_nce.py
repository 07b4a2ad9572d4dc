"""InfoNCE against a queue (MoCo): the grid, the inputs, the baselines and the float64 truth.

Queries take a gradient, their keys and the queue do not. Putting the keys into the queue is part of
nobody's time.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import contrastive, contrastive_rivals, real
from benchmarks.case import Case
from benchmarks.contrastive import KINDS, Contrastive
from benchmarks.registry import BOTH, EAGER, Function, Implementation


def eager_moco(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """The loss as MoCo's authors write it: the positive's logit before those of the queue."""
    query, key = F.normalize(query, dim=1), F.normalize(key, dim=1)
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], 1) / temperature
    target = torch.zeros(len(query), dtype=torch.int64, device=query.device)
    return F.cross_entropy(logits, target)


def _build_ours(case: Case) -> Function:
    from sslkernels.nn import MoCoQueue

    _, size, dim = case.shape
    loss = MoCoQueue(dim, size, temperature=case.parameters["temperature"])

    def ours(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        loss.keys = queue
        return loss(query, key)

    return ours


def _build_eager(case: Case) -> Function:
    return partial(eager_moco, temperature=case.parameters["temperature"])


def _dense_bytes(case: Case) -> int:
    return 5 * case.shape[0] * case.shape[1] * case.torch_dtype.itemsize


def _bank_bytes(case: Case) -> int:
    return _dense_bytes(case) + case.shape[1] * case.shape[2] * case.torch_dtype.itemsize


class InfoNCE(Contrastive):
    """Queries against their keys and a queue of D features; shapes are (queries, queue, D)."""

    name = "info_nce"
    title = "InfoNCE against a queue (MoCo)"
    shape_names = ("queries", "queue", "D")
    parameters: ClassVar[Mapping[str, float]] = {"temperature": 0.2}
    input_note = (
        "correlated keys are query + 0.5 noise, independent ones share nothing with it; the queue "
        "holds random unit rows, with real data more of its rows; only queries take a gradient"
    )
    work_note = (
        "One product is 2 queries queue D flops. The forward needs one and forward + backward "
        "two, since the queue takes no gradient: that is what is counted, for every implementation "
        "alike."
    )
    useful: ClassVar[Mapping[str, float]] = {"forward": 1.0, BOTH: 2.0}
    compared = (EAGER, "compile", "compile-dynamic", "lightly")
    implementations = (
        contrastive.ours(_build_ours, contrastive.linear_bytes, units=2),
        *contrastive.dense(_build_eager, _dense_bytes, units=2),
        Implementation(
            "lightly",
            "lightly",
            contrastive_rivals.build_memory_bank,
            _bank_bytes,
            "lightly",
            "pip install lightly",
            units=2,
            note="its NTXentLoss with a memory bank, which it copies in every call",
        ),
    )

    def rows_and_columns(self, case: Case) -> tuple[int, int]:
        """Queries, and keys of the queue."""
        return case.shape[0], case.shape[1]

    def grid(self, quick: bool) -> list[Case]:
        """MoCo's queue, on random rows and digits."""
        if quick:
            return self.cases([(128, 8192, 128)], KINDS[1:2])
        timed = self.cases([(512, 65536, 128)], KINDS)
        return timed + self.real_cases([(512, 65536, 128)], KINDS[:2], "digits")

    def check_data(self, shape: tuple[int, ...], data: str) -> None:
        """InputError when there are no such rows here, enough for the queue."""
        super().check_data((shape[0] + shape[1], shape[2]), data)

    def inputs(self, case: Case, kind: str, seed: int = 0) -> tuple[Tensor, ...]:
        """query and key [queries, D], and the queue [queue, D] of unit rows."""
        count, size, dim = case.shape
        if kind in real.DATA:
            query, key = contrastive.paired_rows(kind, count + size, dim, seed)
            query, key, queue = query[:count], key[:count], key[count:]
        else:
            query, key = contrastive.paired_rows(kind, count, dim, seed)
            queue = torch.randn(size, dim, generator=torch.Generator().manual_seed(seed + 1))
        key, queue = (one.to(case.device, case.torch_dtype) for one in (key, F.normalize(queue)))
        return contrastive.leaf(case, query), key, queue

    def exact(self, case: Case, inputs: tuple[Tensor, ...]) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Loss and gradient in float64 on the CPU, of the inputs as rounded to the dtype."""
        count, temperature = case.shape[0], case.parameters["temperature"]

        def part(index: Tensor, query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
            positive = (query[index] * key[index]).sum(1) / temperature
            others = (query[index] @ queue.T / temperature).logsumexp(1)
            return (torch.logaddexp(positive, others) - positive).sum() / count

        return contrastive.exact_in_blocks(inputs, 2, count, part)

    def small(self, case: Case) -> Case:
        """The same features on at most 128 queries and 1024 keys."""
        queries, keys, dim = case.shape
        return replace(case, shape=(min(queries, 128), min(keys, 1024), dim))
