"""DistributedDataParallel over two gloo processes: gradients are averages over the ranks."""

from __future__ import annotations

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch.nn.parallel import DistributedDataParallel

import sslkernels

WORLD = 2


def batch(rank: int) -> tuple[torch.Tensor, torch.Tensor]:
    # Uneven on purpose: rank 1 has more rows.
    generator = torch.Generator().manual_seed(rank)
    return torch.randn(2, 6 + rank, 8, generator=generator).unbind()


class Model(torch.nn.Module):
    """An encoder and a learnable temperature."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.encoder = torch.nn.Linear(8, 4)
        self.loss = sslkernels.nn.NTXentLoss(0.2, learnable=True)

    def forward(self, x1, x2):
        return self.loss(self.encoder(x1), self.encoder(x2))


def gradients(model: torch.nn.Module, rank: int) -> list[torch.Tensor]:
    model.zero_grad()
    model(*batch(rank)).backward()
    return [parameter.grad.clone() for parameter in model.parameters()]


def worker(rank: int, store: str, results: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{store}", rank=rank, world_size=WORLD)
    try:
        model = DistributedDataParallel(Model())
        for _ in range(2):
            grads = gradients(model, rank)
        torch.save(grads, f"{results}/{rank}.pt")
    finally:
        dist.destroy_process_group()


def test_ddp_averages_the_gradients(tmp_path):
    # The library must exist before two processes would build it at once in a test.
    expected = [gradients(Model(), rank) for rank in range(WORLD)]
    mp.spawn(worker, (str(tmp_path / "store"), str(tmp_path)), nprocs=WORLD)
    for rank in range(WORLD):
        actual = torch.load(tmp_path / f"{rank}.pt")
        for index, gradient in enumerate(actual):
            mean = (expected[0][index] + expected[1][index]) / WORLD
            assert torch.allclose(gradient, mean, rtol=1e-4, atol=1e-6)
