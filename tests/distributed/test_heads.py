"""Heads with `group=`: the ranks together are one process with the joint batch."""

from __future__ import annotations

import functools

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import sslkernels
from tests.distributed.heads import (
    HEADS,
    SHARES,
    Model,
    error,
    gradients,
    inputs,
    joint,
    upstream,
)
from tests.distributed.spawn import spawn

EXCHANGES = ("gather", "ring")
MEAN = [name for name, head in HEADS.items() if head.reduction == "mean"]


def worker(rank: int) -> dict:
    results = {}
    for shares, rows in SHARES.items():
        x = inputs(rank, rows(rank))
        for name, head in HEADS.items():
            for exchange in EXCHANGES:
                loss_of = functools.partial(head, group=dist.group.WORLD, exchange=exchange)
                for backend in ("cpu", "chunked"):
                    model = Model(loss_of)
                    with sslkernels.backend(backend):
                        loss = model(*x)
                        weight = upstream(rank, rows(rank)) if loss.dim() else 1.0
                        (loss * weight).sum().backward()
                    results[name, shares, exchange, backend] = loss.detach(), gradients(model)
                if name in MEAN:
                    results[name, shares, exchange, "ddp"] = in_ddp(loss_of, x)
    return results


def in_ddp(loss_of, x):
    model = DistributedDataParallel(Model(loss_of), find_unused_parameters=True)
    for _ in range(2):  # the second step has other buckets
        model.zero_grad()
        model(*x).backward()
    return gradients(model)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request, tmp_path_factory):
    return spawn(worker, request.param, tmp_path_factory.mktemp("ranks"))


@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("name", HEADS)
def test_is_the_joint_batch(ranks, name, shares, exchange, backend):
    head = HEADS[name]
    expected, wanted = joint(head, len(ranks), shares)
    losses, parts = zip(*[r[name, shares, exchange, backend] for r in ranks], strict=True)
    share = len(ranks) if head.reduction == "mean" else 1
    loss = torch.cat(losses) if losses[0].dim() else torch.stack(losses).sum() / share
    assert error(loss, expected) < head.tolerance
    for exact, *of_ranks in zip(wanted, *parts, strict=True):
        assert error(torch.stack(of_ranks).double().sum(0) / share, exact) < head.tolerance


@pytest.mark.parametrize("exchange", EXCHANGES)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize("name", MEAN)
def test_under_ddp(ranks, name, shares, exchange):
    _, wanted = joint(HEADS[name], len(ranks), shares)
    for results in ranks:
        for actual, exact in zip(results[name, shares, exchange, "ddp"], wanted, strict=True):
            assert error(actual, exact) < HEADS[name].tolerance
