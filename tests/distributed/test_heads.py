"""Heads with `group=`: the ranks together are one process with the joint batch."""

from __future__ import annotations

import contextlib
import functools

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

import sslkernels
from tests.distributed.heads import (
    FEATURES,
    HEADS,
    SHARES,
    Model,
    error,
    gradients,
    inputs,
    joint,
    upstream,
)
from tests.distributed.spawn import spawn_once

CASES = [(name, exchange) for name, head in HEADS.items() for exchange in head.exchanges]
MEAN = [(name, exchange) for name, exchange in CASES if HEADS[name].reduction == "mean"]

# Not "cpu": some heads have no C++ kernels.
BACKENDS = {
    "default": contextlib.nullcontext,
    "chunked": functools.partial(sslkernels.backend, "chunked"),
}


def worker(rank: int) -> dict:
    results = {}
    for shares, rows in SHARES.items():
        x = inputs(rank, rows(rank))
        for name, head in HEADS.items():
            for exchange in head.exchanges:
                loss_of = functools.partial(head, group=dist.group.WORLD, exchange=exchange)
                for backend, chosen in BACKENDS.items():
                    model = Model(loss_of)
                    with chosen():
                        loss = model(*x)
                        weight = upstream(rank, rows(rank)) if loss.dim() else 1.0
                        (loss * weight).sum().backward()
                    results[name, shares, exchange, backend] = loss.detach(), gradients(model)
                if head.reduction == "mean":
                    results[name, shares, exchange, "ddp"] = in_ddp(loss_of, x)
                    if shares != "one without rows":
                        results[name, shares, exchange, "accumulate"] = accumulated(loss_of, x)
    results["queue"] = filled_queue(rank).state_dict()
    return results


def filled_queue(rank, world=1):
    """MoCo's queue after the keys of `world` ranks from `rank` on; of all ranks where it is 1."""
    torch.manual_seed(0)
    queue = sslkernels.nn.MoCoQueue(FEATURES, 64)
    group = dist.group.WORLD if world == 1 else None
    keys = torch.cat([inputs(r, SHARES["uneven"](r))[0] for r in range(rank, rank + world)])
    for _ in range(2):
        queue.enqueue(keys, group=group)
    return queue


def accumulated(loss_of, x):
    """Gradients by micro-batches of 3 rows, averaged by DistributedDataParallel in the last one."""
    model = DistributedDataParallel(Encoders(loss_of))
    sslkernels.accumulate(
        lambda batch: model(*batch),
        zip(*(part.split(3) for part in x), strict=True),
        # What a head does not use has a gradient of zero: DistributedDataParallel waits for it.
        lambda a, b, labels, scale, bias: loss_of(a, b, labels, scale, bias) + 0.0 * (scale + bias),
        ddp=model,
    )
    return gradients(model)


class Encoders(Model):
    """What the loss takes, for a loss that is called apart."""

    def forward(self, x1, x2, labels):
        return self.first(x1), self.second(x2), labels, self.log_scale.exp(), self.bias * 1.0


def in_ddp(loss_of, x):
    model = DistributedDataParallel(Model(loss_of), find_unused_parameters=True)
    for _ in range(2):  # the second step has other buckets
        model.zero_grad()
        model(*x).backward()
    return gradients(model)


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request, tmp_path_factory):
    return spawn_once(worker, request.param, tmp_path_factory)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize(("name", "exchange"), CASES)
def test_is_the_joint_batch(ranks, name, shares, exchange, backend):
    head = HEADS[name]
    expected, wanted = joint(head, len(ranks), shares)
    losses, parts = zip(*[r[name, shares, exchange, backend] for r in ranks], strict=True)
    share = len(ranks) if head.reduction == "mean" else 1
    loss = torch.cat(losses) if losses[0].dim() else torch.stack(losses).sum() / share
    assert error(loss, expected) < head.tolerance
    for exact, *of_ranks in zip(wanted, *parts, strict=True):
        assert error(torch.stack(of_ranks).double().sum(0) / share, exact) < head.tolerance


@pytest.mark.parametrize("shares", SHARES)
@pytest.mark.parametrize(("name", "exchange"), MEAN)
def test_under_ddp(ranks, name, shares, exchange):
    _, wanted = joint(HEADS[name], len(ranks), shares)
    for results in ranks:
        for actual, exact in zip(results[name, shares, exchange, "ddp"], wanted, strict=True):
            assert error(actual, exact) < HEADS[name].tolerance


@pytest.mark.parametrize("shares", ["even", "uneven"])
@pytest.mark.parametrize(("name", "exchange"), MEAN)
def test_accumulate(ranks, name, shares, exchange):
    _, wanted = joint(HEADS[name], len(ranks), shares)
    for results in ranks:
        found = results[name, shares, exchange, "accumulate"]
        for actual, exact in zip(found, wanted, strict=True):
            assert error(actual, exact) < HEADS[name].tolerance


def test_queue_takes_the_keys_of_all_ranks(ranks):
    expected = filled_queue(0, len(ranks)).state_dict()
    for results in ranks:
        for name, value in expected.items():
            assert torch.equal(results["queue"][name], value)
