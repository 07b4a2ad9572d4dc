"""The gather, its derivatives, and the round trip, against one process with every rank's rows."""

from __future__ import annotations

import weakref

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from sslkernels.distributed import Shares, gather_rows, sum_over_ranks
from sslkernels.distributed.rounds import round_trip
from tests.distributed.spawn import spawn_once

COUNTS = {"even": (3, 3, 3), "uneven": (4, 1, 2), "one without rows": (4, 0, 2)}
WIDTH = 5


def rows(rank: int, counts: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(counts[rank], WIDTH, generator=generator, dtype=torch.float64)


def value(x: Tensor, everything: Tensor) -> Tensor:
    """Of third order in every row, and not the same on two ranks."""
    return (x @ everything.T).pow(3).sum() + everything[0].sum()


def worker(rank: int) -> dict:
    return {name: of_shares(rank, counts) for name, counts in COUNTS.items()}


def of_shares(rank: int, counts: tuple[int, ...]) -> dict:
    shares = Shares(dist.group.WORLD, rank, counts)
    x = rows(rank, counts).requires_grad_()
    everything = gather_rows(x, shares)
    (first,) = torch.autograd.grad(value(x, everything), x, create_graph=True)
    (second,) = torch.autograd.grad(first.pow(2).sum(), x)
    low = torch.full((counts[rank], WIDTH), 1.0, dtype=torch.bfloat16, requires_grad=True)
    # 1 and twice 2^-8: in bfloat16 1 + 2^-8 is 1 again.
    gather_rows(low, shares).backward(
        torch.full((shares.total, WIDTH), 1.0 if rank == 0 else 2.0**-8, dtype=torch.bfloat16)
    )
    return {
        "rows": everything.detach(),
        "first": first.detach(),
        "second": second,
        "low": low.grad,
        "sum": sum_over_ranks(first.detach().sum(0, keepdim=True), shares),
        "trip": trip(shares, x.detach()),
    }


def trip(shares: Shares, x: Tensor) -> dict:
    """What a rank sees of the others' blocks, how many live at once, and what comes home."""
    blocks, alive, seen = [], [], {}

    def visit(owner, block):
        (of_owner,) = block
        seen[owner] = of_owner.clone()
        blocks.append(weakref.ref(of_owner))
        alive.append(sum(ref() is not None for ref in blocks))
        return [of_owner * 10.0**shares.rank]

    (home,) = round_trip(shares, [x], visit)
    nothing = round_trip(shares, [x], lambda owner, block: [])
    return {"seen": seen, "alive": alive, "home": home, "nothing": nothing}


@pytest.fixture(scope="module")
def everything(tmp_path_factory):
    return spawn_once(worker, 3, tmp_path_factory)


@pytest.fixture(params=COUNTS)
def ranks(request, everything):
    return COUNTS[request.param], [results[request.param] for results in everything]


def test_rows_and_derivatives(ranks):
    counts, results = ranks
    parts = [rows(rank, counts).requires_grad_() for rank in range(len(counts))]
    everything = torch.cat(parts)
    total = sum(value(x, everything) for x in parts)
    first = torch.autograd.grad(total, parts, create_graph=True)
    second = torch.autograd.grad(sum(x.pow(2).sum() for x in first), parts)
    for rank, result in enumerate(results):
        assert torch.equal(result["rows"], everything)
        assert torch.allclose(result["first"], first[rank], rtol=1e-12)
        assert torch.allclose(result["second"], second[rank], rtol=1e-12)


def test_sums_sixteen_bits_in_thirty_two(ranks):
    for result in ranks[1]:
        assert result["low"].dtype is torch.bfloat16
        assert (result["low"] == 1 + 2.0**-7).all()


def test_sum_over_ranks(ranks):
    expected = sum(result["first"].sum(0, keepdim=True) for result in ranks[1])
    for result in ranks[1]:
        assert torch.allclose(result["sum"], expected, rtol=1e-12)


def test_round_trip(ranks):
    counts, results = ranks
    for rank, result in enumerate(results):
        trip = result["trip"]
        for owner, block in trip["seen"].items():
            assert torch.equal(block, rows(owner, counts))
        assert list(trip["seen"]) == [(rank - step) % len(counts) for step in range(len(counts))]
        assert torch.allclose(trip["home"], 111.0 * rows(rank, counts), rtol=1e-12)
        assert trip["nothing"] == []


def test_no_more_than_its_own_and_one_other_block_at_a_time(ranks):
    assert all(max(result["trip"]["alive"]) == 2 for result in ranks[1])
