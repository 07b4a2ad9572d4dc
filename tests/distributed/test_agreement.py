"""Ranks that differ: a clear error on each of them, none left waiting."""

from __future__ import annotations

import re
import time
from datetime import timedelta
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist

import sslkernels
from sslkernels import distributed
from tests.distributed.spawn import outcome, spawn_once

WORLD = 3


def call(rank, width=8, dtype=torch.float32, gradient=True, group=None, rows=4, **settings):
    z = torch.randn(rows, width, dtype=dtype, requires_grad=gradient)
    return sslkernels.nt_xent(z, z, group=group or dist.group.WORLD, **settings)


def worker(rank: int) -> dict:
    odd = rank == 1
    results = {}

    def record(name, **settings):
        results[name] = outcome(lambda: call(rank, **settings))

    record("width", width=6 if odd else 8)
    record("dtype", dtype=torch.float64 if odd else torch.float32)
    record("gradient", gradient=not odd)
    record("temperature", temperature=0.1 if odd else 0.2)
    record("reduction", reduction="sum" if odd else "mean")
    record("normalize", normalize=not odd)
    record("exchange", exchange="ring" if odd else "gather")
    record("unknown exchange", exchange="mail")
    record("accuracy", exchange="ring", return_accuracy=True)
    record("no rows", rows=0)
    record("argument", temperature=-1.0 if odd else 0.5)
    facts = {"label": "x" * distributed.agreement.HEADER}
    agree = lambda check: distributed.agree("op", dist.group.WORLD, check)  # noqa: E731
    results["facts too long"] = outcome(lambda: agree(lambda: (1, facts)))
    message = '"\n\\\x00\u00e9' * 500
    results["long message"] = outcome(lambda: agree(lambda: fail(message) if odd else (1, {})))
    record("not a group", group="gloo")

    alone = dist.new_group([0])
    if rank == 0:
        z1, z2 = torch.randn(2, 5, 8).unbind()
        difference = sslkernels.nt_xent(z1, z2, group=alone) - sslkernels.nt_xent(z1, z2)
        results["alone"] = abs(float(difference))
        results["decoupled alone"] = outcome(
            lambda: sslkernels.nt_xent(z1[:1], z2[:1], decoupled=True, group=alone)
        )
    else:
        record("not a member", group=alone)
    everybody = dist.new_group(list(range(WORLD)))
    dist.destroy_process_group(everybody)
    record("destroyed", group=everybody)
    record("all is well")

    results["timeout"] = alone_without(1, rank, lambda group: call(rank, group=group))
    for exchange in ("gather", "ring"):
        results[f"backward {exchange}"] = alone_without(
            1,
            rank,
            lambda group, loss: loss.backward(),
            lambda group, exchange=exchange: call(rank, group=group, exchange=exchange),
        )
    world = dist.group.WORLD
    dist.destroy_process_group()
    results["no groups left"] = outcome(lambda: call(rank, group=world))
    return results


def alone_without(absent, rank, last, first=lambda group: None):
    """What `last` raises on the others where rank `absent` calls `first` and no more."""
    brief = dist.new_group(list(range(WORLD)), timeout=timedelta(seconds=2))
    loss = first(brief)
    arguments = (brief,) if loss is None else (brief, loss)
    found = None if rank == absent else outcome(lambda: last(*arguments))
    dist.barrier()
    return found


def fail(message):
    raise ValueError(message)


@pytest.fixture(scope="module")
def ranks(tmp_path_factory):
    return spawn_once(worker, WORLD, tmp_path_factory)


@pytest.mark.parametrize(
    ("name", "error", "message"),
    [
        (
            "width",
            "ValueError",
            "width must be the same on every rank of group, got 8 on rank 0, 2",
        ),
        ("dtype", "TypeError", "dtype must be .* got float32 on rank 0, 2; float64 on rank 1"),
        ("gradient", "ValueError", "gradient must be .* got True on rank 0, 2; False on rank 1"),
        ("temperature", "ValueError", "temperature must be .* got 0.2 on rank 0, 2; 0.1 on rank 1"),
        ("reduction", "ValueError", "reduction must be .* got mean on rank 0, 2; sum on rank 1"),
        ("normalize", "ValueError", "normalize must be .* got True on rank 0, 2; False on rank 1"),
        ("exchange", "ValueError", "exchange must be .* got gather on rank 0, 2; ring on rank 1"),
        ("unknown exchange", "ValueError", "exchange must be one of gather, ring, got 'mail'"),
        ("accuracy", "ValueError", "return_accuracy needs exchange='gather'"),
        ("no rows", "ValueError", "no rank of group has a row"),
        ("not a group", "TypeError", "group must be a process group of torch.distributed, got str"),
        ("destroyed", "ValueError", "group has been destroyed"),
        ("no groups left", "ValueError", "group has been destroyed"),
    ],
)
def test_error_on_every_rank(ranks, name, error, message):
    for results in ranks:
        kind, text = results[name]
        assert kind == error, text
        assert re.match("nt_xent: " + message, text), text


def test_wrong_argument_on_one_rank(ranks):
    assert ranks[1]["argument"][0] == "ValueError"
    assert "temperature must be positive" in ranks[1]["argument"][1]
    for rank in (0, 2):
        kind, text = ranks[rank]["argument"]
        assert kind == "RuntimeError"
        assert text.startswith("nt_xent: rank 1 of group raised ValueError: nt_xent: temperature")


def test_message_of_any_length_and_kind(ranks):
    assert ranks[1]["long message"][0] == "ValueError"
    for rank in (0, 2):
        kind, text = ranks[rank]["long message"]
        assert (kind, text[:37]) == ("RuntimeError", "op: rank 1 of group raised ValueError")


def test_facts_too_long(ranks):
    assert all("more than 512" in results["facts too long"][1] for results in ranks)


def test_group_of_one(ranks):
    assert ranks[0]["alone"] < 1e-6
    kind, text = ranks[0]["decoupled alone"]
    assert kind == "ValueError" and "decoupled needs at least 2 samples" in text


def test_not_a_member(ranks):
    for rank in (1, 2):
        kind, text = ranks[rank]["not a member"]
        assert kind == "ValueError" and text == "nt_xent: this process does not belong to group"


def test_after_errors_the_group_still_works(ranks):
    assert all(results["all is well"][0] == "returned" for results in ranks)


@pytest.mark.parametrize("name", ["timeout", "backward gather", "backward ring"])
def test_a_rank_that_never_comes_is_named(ranks, name):
    for rank in (0, 2):
        kind, text = ranks[rank][name]
        assert kind == "RuntimeError"
        assert text.startswith(f"nt_xent: rank {rank} of 3 did not meet rank 1 of group"), text


class SilentStore:
    """The store of a group whose host does not answer."""

    def set(self, *_):
        time.sleep(60)


def test_a_store_out_of_reach(monkeypatch):
    """Its own error is not hidden, and comes in time."""
    group = SimpleNamespace(get_group_store=SilentStore)
    monkeypatch.setattr(dist, "get_rank", lambda group: 0)
    monkeypatch.setattr(dist, "get_world_size", lambda group: 2)
    monkeypatch.setattr(distributed.meeting, "GRACE", timedelta(seconds=0.1))
    began = time.monotonic()
    with (
        pytest.raises(RuntimeError, match=r"rank 0 of 2 did not meet the other ranks .* cable cut"),
        distributed.meeting.meeting("op", group),
    ):
        raise RuntimeError("cable cut")
    assert time.monotonic() - began < 10


def test_many_ranks_are_not_all_listed():
    facts = [{"width": 8}] * 100 + [{"width": 6}]
    with pytest.raises(ValueError, match=r"8 on rank 0, 1, .* 7 and 92 more; 6 on rank 100$"):
        distributed.agreement._compare("op", facts)
