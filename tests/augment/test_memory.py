"""Large views lie in memory that is used again once nobody holds them; and only then."""

from __future__ import annotations

import gc
import os
import sys
import threading
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from sslkernels import augment, backends, policies

pytestmark = [
    pytest.mark.skipif(
        bool(backends.why_not("augment", "cpu", torch.empty(0))), reason="no C++ kernels here"
    ),
    pytest.mark.skipif(
        sys.platform != "linux" or TorchVersion(torch.__version__) < "2.11",
        reason="needs Linux and torch 2.11",
    ),
]

IMAGES = torch.randint(256, (8, 3, 40, 40), dtype=torch.uint8)
POLICY = policies.simclr(160)  # 5 MB of views


@pytest.fixture(autouse=True)
def empty_cache():
    torch.ops.sslkernels.release_workspaces()


def test_memory_is_used_again():
    views = augment(IMAGES, POLICY, seed=1)
    place = views.data_ptr()
    del views
    assert augment(IMAGES, POLICY, seed=2).data_ptr() == place


def resident() -> int:
    """Bytes of memory that this process has."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def test_a_larger_block_takes_the_place_of_a_smaller():
    before = resident()
    for count in (80, 120, 180):
        last = augment(IMAGES[:1].expand(count, -1, -1, -1).contiguous(), POLICY, seed=1).nbytes
    assert resident() - before < 1.5 * last  # all three: 2.1 times


@pytest.mark.parametrize(
    "hold",
    [lambda x: x[1, 3, 2], Tensor.detach, Tensor.numpy, Tensor.untyped_storage],
    ids=["a part", "detached", "numpy", "storage"],
)
def test_not_while_anything_holds_it(hold):
    views = augment(IMAGES, POLICY, seed=1)
    place, before = views.data_ptr(), views.clone()
    held = hold(views)
    del views
    others = [augment(IMAGES, POLICY, seed=seed) for seed in range(2, 5)]
    assert place not in [other.data_ptr() for other in others]
    assert torch.equal(augment(IMAGES, POLICY, seed=1), before)
    del held, others
    gc.collect()


def test_not_while_a_graph_holds_it():
    images = (IMAGES / 255).requires_grad_()
    loss = augment(images, POLICY, seed=1).square().sum()  # squaring keeps what it squares
    (want,) = torch.autograd.grad(loss, images, retain_graph=True)
    for seed in range(2, 5):
        augment(IMAGES, POLICY, seed=seed)
    assert torch.equal(torch.autograd.grad(loss, images)[0], want)


def test_gradients_too():
    images = (torch.rand(16, 3, 128, 128)).requires_grad_()  # 3 MB
    places = set()
    for seed in range(3):
        (gradient,) = torch.autograd.grad(
            augment(images, policies.simclr(32), seed=seed).sum(), images
        )
        places.add(gradient.data_ptr())
        del gradient
    assert len(places) == 1


def test_released_memory_is_not_what_is_in_use():
    views = augment(IMAGES, POLICY, seed=1)
    before = views.clone()
    torch.ops.sslkernels.release_workspaces()
    augment(IMAGES, POLICY, seed=2)
    assert torch.equal(views, before)


def test_threads_have_views_of_their_own():
    wrong = []

    def work(seed):
        for _ in range(5):
            views = augment(IMAGES, POLICY, seed=seed)
            if not torch.equal(views, want[seed]):
                wrong.append(seed)

    want = [augment(IMAGES, POLICY, seed=seed) for seed in range(4)]
    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def test_shared_memory_and_channels_last():
    """What a DataLoader's worker does with a batch."""
    views = augment(IMAGES, POLICY, seed=1)
    assert torch.equal(views.clone().share_memory_(), views)
    assert views.share_memory_().is_shared()
