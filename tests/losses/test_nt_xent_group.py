"""`nt_xent(group=...)`: the ranks together are one process with the joint batch."""

from __future__ import annotations

import itertools

import pytest
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

import sslkernels
from sslkernels.losses import nt_xent as nt_xent_module
from tests import rounding
from tests.distributed.spawn import spawn_once

FEATURES, WIDTH = 12, 8
CASES = {
    "mean": {},
    "sum": {"reduction": "sum"},
    "none": {"reduction": "none"},
    "decoupled": {"decoupled": True},
    "decoupled none": {"decoupled": True, "reduction": "none"},
    "not normalised": {"normalize": False},
}


def samples(rank: int, uneven: bool) -> int:
    return 5 + 3 * rank if uneven else 6


def inputs(rank: int, uneven: bool) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(2, samples(rank, uneven), FEATURES, generator=generator).unbind()


def alike(x1: Tensor, x2: Tensor) -> tuple[Tensor, Tensor]:
    """Views of which some, not all, are closest to their partners."""
    return x1, x1 + 1.2 * x2


def trained(x1: Tensor, x2: Tensor) -> list[Tensor]:
    """Views that a trained encoder has made alike, in bfloat16."""
    return [x1.bfloat16(), (x1 + 0.1 * x2).bfloat16()]


def row_weights(rank: int, uneven: bool) -> Tensor:
    """Upstream gradients for reduction "none"."""
    return torch.linspace(0.5, 1.5 + rank, 2 * samples(rank, uneven))


class Model(torch.nn.Module):
    """An encoder and a learnable temperature."""

    def __init__(self, **settings):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = torch.nn.Linear(FEATURES, WIDTH)
        self.loss = sslkernels.nn.NTXentLoss(0.3, learnable=True, **settings)

    def forward(self, x1, x2):
        return self.loss(self.encoder(x1), self.encoder(x2))


def worker(rank: int) -> dict:
    results = {}
    for uneven in (False, True):
        for name, settings in CASES.items():
            for backend, exchange in itertools.product(("cpu", "chunked"), ("gather", "ring")):
                with sslkernels.backend(backend):
                    model = Model(group=dist.group.WORLD, exchange=exchange, **settings)
                    loss = model(*inputs(rank, uneven))
                    weight = row_weights(rank, uneven) if loss.dim() else 1.0
                    (loss * weight).sum().backward()
                gradients = [p.grad for p in model.parameters()]
                results[name, uneven, backend, exchange] = loss.detach(), gradients
        model = DistributedDataParallel(Model(group=dist.group.WORLD))
        for _ in range(2):  # the second step has other buckets
            model.zero_grad()
            model(*inputs(rank, uneven)).backward()
        results["ddp", uneven] = [p.grad for p in model.parameters()]
        z1, z2 = (x.bfloat16().requires_grad_() for x in inputs(rank, uneven))
        for exchange in ("gather", "ring"):
            z1.grad = z2.grad = None
            loss = sslkernels.nt_xent(
                z1, z2, 0.3, reduction="none", group=dist.group.WORLD, exchange=exchange
            )
            loss.backward(row_weights(rank, uneven))
            results["bfloat16", uneven, exchange] = loss.detach(), z1.grad, z2.grad
        for exchange in ("gather", "ring"):
            z1, z2 = (x.requires_grad_() for x in trained(*inputs(rank, uneven)))
            sslkernels.nt_xent(z1, z2, 0.1, group=dist.group.WORLD, exchange=exchange).backward()
            results["trained", uneven, exchange] = z1.grad, z2.grad
        z1, z2 = alike(*inputs(rank, uneven))
        _, results["accuracy", uneven] = sslkernels.nt_xent(
            z1, z2, return_accuracy=True, group=dist.group.WORLD
        )
    if dist.get_world_size() == 2:
        results["compiled"] = compiled(rank)
    return results


def compiled(rank: int) -> list[Tensor]:
    model = Model(group=dist.group.WORLD)
    torch.compile(model, backend="eager")(*inputs(rank, True)).backward()
    return [p.grad for p in model.parameters()]


@pytest.fixture(scope="module", params=[2, pytest.param(4, marks=pytest.mark.slow)])
def ranks(request, tmp_path_factory):
    return spawn_once(worker, request.param, tmp_path_factory)


def joint_inputs(world: int, uneven: bool) -> tuple[Tensor, Tensor]:
    pairs = [inputs(rank, uneven) for rank in range(world)]
    return tuple(torch.cat(parts) for parts in zip(*pairs, strict=True))


def by_view(per_rank: list[Tensor]) -> Tensor:
    """Rows that each rank has as [first views, second views], as one process has them."""
    halves = [rows.chunk(2) for rows in per_rank]
    return torch.cat([first for first, _ in halves] + [second for _, second in halves])


def joint(world: int, uneven: bool, **settings) -> tuple[Tensor, list[Tensor]]:
    """One process with the joint batch, by the definition, in float64."""
    model = Model().double()
    x1, x2 = (x.double() for x in joint_inputs(world, uneven))
    loss = nt_xent_module.reference(
        model.encoder(x1), model.encoder(x2), model.loss.temperature, **settings
    )
    upstream = torch.ones(())
    if loss.dim():
        upstream = by_view([row_weights(rank, uneven) for rank in range(world)])
    (loss * upstream).sum().backward()
    return loss.detach(), [p.grad for p in model.parameters()]


def error(actual: Tensor, expected: Tensor) -> float:
    return float((actual.double() - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("exchange", ["gather", "ring"])
@pytest.mark.parametrize("backend", ["cpu", "chunked"])
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
@pytest.mark.parametrize("name", CASES)
def test_is_the_joint_batch(ranks, name, uneven, backend, exchange):
    expected, expected_gradients = joint(len(ranks), uneven, **CASES[name])
    key = name, uneven, backend, exchange
    losses, gradients = zip(*[results[key] for results in ranks], strict=True)
    averaged = CASES[name].get("reduction", "mean") == "mean"
    share = len(ranks) if averaged else 1
    loss = by_view(losses) if losses[0].dim() else torch.stack(losses).sum() / share
    # Logits of 30 and more: float32 itself is that far off.
    tolerance = 2e-6 if name == "not normalised" else 1e-6
    assert error(loss, expected) < tolerance
    for wanted, *parts in zip(expected_gradients, *gradients, strict=True):
        assert error(torch.stack(parts).sum(0) / share, wanted) < tolerance


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_under_ddp(ranks, uneven):
    _, expected = joint(len(ranks), uneven)
    for results in ranks:
        for gradient, wanted in zip(results["ddp", uneven], expected, strict=True):
            assert error(gradient, wanted) < 1e-6


@pytest.mark.parametrize("ranks", [2], indirect=True)
def test_compiled_with_a_break_of_the_graph(ranks):
    _, expected = joint(len(ranks), True)
    parts = zip(*[results["compiled"] for results in ranks], strict=True)
    for gradients, wanted in zip(parts, expected, strict=True):
        assert error(torch.stack(gradients).mean(0), wanted) < 1e-6


@pytest.mark.parametrize("exchange", ["gather", "ring"])
@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_bfloat16(ranks, uneven, exchange):
    world = len(ranks)
    z1, z2 = (x.bfloat16().double().requires_grad_() for x in joint_inputs(world, uneven))
    loss = nt_xent_module.reference(z1, z2, 0.3, reduction="none")
    upstream = by_view([row_weights(rank, uneven) for rank in range(world)]).double()
    loss.backward(upstream)
    rows, tolerance = rounding.nt_xent(
        torch.bfloat16,
        upstream,
        z1.detach(),
        z2.detach(),
        torch.tensor(0.3).double(),
        normalize=True,
        decoupled=False,
    )
    found = [results["bfloat16", uneven, exchange] for results in ranks]
    losses, first, second = zip(*found, strict=True)
    assert all(x.dtype is torch.float32 for x in losses)
    assert ((by_view(losses) - loss).abs() <= rows).all()
    for gradients, z, name in ((first, z1, "z1"), (second, z2, "z2")):
        assert ((torch.cat(gradients).double() - z.grad).abs() <= tolerance[name]).all()


@pytest.mark.parametrize("exchange", ["gather", "ring"])
def test_a_trained_encoder_in_bfloat16(ranks, exchange):
    """What is left of the softmax beside the positive is not lost where gradients are rounded."""
    leaves = [x.double().requires_grad_() for x in trained(*joint_inputs(len(ranks), True))]
    nt_xent_module.reference(*leaves, 0.1).backward()
    found = zip(*[results["trained", True, exchange] for results in ranks], strict=True)
    for parts, exact in zip(found, leaves, strict=True):
        gradient = torch.cat(parts).double() / len(ranks)
        assert (gradient - exact.grad).norm() < 0.03 * exact.grad.norm()


@pytest.mark.parametrize("uneven", [False, True], ids=["even", "uneven"])
def test_accuracy(ranks, uneven):
    _, expected = sslkernels.nt_xent(
        *alike(*joint_inputs(len(ranks), uneven)), return_accuracy=True
    )
    average = torch.stack([results["accuracy", uneven] for results in ranks]).mean()
    assert 0 < expected < 1
    assert torch.allclose(average, expected)
