from __future__ import annotations

import copy

import torch
from torch import nn

from sslkernels.train.optimizers import LARS


def by_hand(weights, gradients, buffers, lr, momentum, decay, trust):
    """LARS as its paper writes it, algorithm 1, for weights; a plain step for vectors."""
    for weight, gradient, buffer in zip(weights, gradients, buffers, strict=True):
        if weight.dim() > 1:
            own, other = weight.norm(), (gradient + decay * weight).norm()
            gradient = (gradient + decay * weight) * (trust * own / other)
        buffer.copy_(momentum * buffer + gradient)
        weight -= lr * buffer


def test_lars_is_what_the_paper_says():
    torch.manual_seed(0)
    layer = nn.Linear(5, 3).double()
    expected = [p.detach().clone() for p in layer.parameters()]
    buffers = [torch.zeros_like(p) for p in expected]
    optimizer = LARS(layer.parameters(), 0.3, momentum=0.8, weight_decay=0.1, trust=0.02)
    for _ in range(3):
        x = torch.randn(7, 5, dtype=torch.float64)
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        gradients = [p.grad.clone() for p in layer.parameters()]
        by_hand(expected, gradients, buffers, 0.3, 0.8, 0.1, 0.02)
        optimizer.step()
        for mine, theirs in zip(layer.parameters(), expected, strict=True):
            torch.testing.assert_close(mine.detach(), theirs, rtol=1e-12, atol=1e-14)


def test_lars_leaves_zero_weights_and_goes_on_from_its_state():
    torch.manual_seed(0)
    layer = nn.Linear(4, 2, bias=False)
    nn.init.zeros_(layer.weight)
    optimizer = LARS(layer.parameters(), 0.1)

    def step(layer, optimizer):
        optimizer.zero_grad()
        layer(torch.ones(3, 4)).sub(1).square().sum().backward()
        optimizer.step()

    step(layer, optimizer)
    assert layer.weight.abs().min() > 0
    other = copy.deepcopy(layer)
    again = LARS(other.parameters(), 0.5)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    step(layer, optimizer)
    step(other, again)
    assert torch.equal(layer.weight, other.weight)
