"""`accumulate` over the joint batch of several processes, under DistributedDataParallel."""

from __future__ import annotations

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

import sslkernels
from sslkernels.losses import nt_xent as nt_xent_module
from tests.distributed.spawn import spawn

FEATURES = 6


class Model(nn.Module):
    """An encoder and a learnable temperature, both of which DDP averages."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(nn.Linear(FEATURES, 8), nn.Tanh(), nn.Linear(8, 5))
        self.log_temperature = nn.Parameter(torch.tensor(-1.0))

    def forward(self, views):
        z1, z2 = self.encoder(torch.cat(views)).chunk(2)
        return z1, z2, self.log_temperature.exp()


def inputs(rank: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(2, 7 + 4 * rank, FEATURES, generator=generator).unbind()


def worker(rank: int) -> tuple[Tensor, list[Tensor], int]:
    """Micro-batches of 4: each rank has another number of them."""
    model, reductions = DistributedDataParallel(Model()), 0

    def counted(state, bucket):
        nonlocal reductions
        reductions += 1
        work = dist.all_reduce(bucket.buffer().div_(dist.get_world_size()), async_op=True)
        return work.get_future().then(lambda future: future.value()[0])

    model.register_comm_hook(None, counted)
    value = sslkernels.accumulate(
        model,
        zip(*(x.split(4) for x in inputs(rank)), strict=True),
        lambda z1, z2, t: sslkernels.nt_xent(z1, z2, t, group=dist.group.WORLD),
        ddp=model,
    )
    return value, [p.grad for p in model.parameters()], reductions


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_is_the_joint_batch(tmp_path, world):
    model = Model().double()
    pairs = [inputs(rank) for rank in range(world)]
    joint = tuple(torch.cat(parts).double() for parts in zip(*pairs, strict=True))
    expected = nt_xent_module.reference(*model(joint))
    expected.backward()
    values, gradients, reductions = zip(*spawn(worker, world, tmp_path), strict=True)
    assert abs(torch.stack(values).mean() / expected - 1) < 1e-6
    for of_rank in gradients:
        for parameter, gradient in zip(model.parameters(), of_rank, strict=True):
            wanted = parameter.grad
            assert (gradient - wanted).abs().max() < 1e-6 * wanted.abs().max()
    assert reductions == (1,) * world  # one bucket, in the last micro-batch only
