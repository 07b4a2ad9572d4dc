"""The gather and its derivatives, against one process that holds every rank's rows."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor

from sslkernels.distributed import Shares, gather_rows
from tests.distributed.spawn import spawn

COUNTS = {"even": (3, 3, 3), "uneven": (4, 1, 2)}
WIDTH = 5


def rows(rank: int, counts: tuple[int, ...]) -> Tensor:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(counts[rank], WIDTH, generator=generator, dtype=torch.float64)


def value(x: Tensor, everything: Tensor) -> Tensor:
    """Of third order in every row, and not the same on two ranks."""
    return (x @ everything.T).pow(3).sum() + everything[0].sum()


def worker(rank: int, counts: tuple[int, ...]) -> dict:
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
    return {"rows": everything.detach(), "first": first.detach(), "second": second, "low": low.grad}


@pytest.fixture(scope="module", params=COUNTS)
def ranks(request, tmp_path_factory):
    counts = COUNTS[request.param]
    return counts, spawn(worker, len(counts), tmp_path_factory.mktemp("ranks"), counts)


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
