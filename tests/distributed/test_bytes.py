"""docs/scaling.md against the bytes that the sockets of each rank have sent."""

from __future__ import annotations

import itertools
import os
import socket
import struct
import sys
import time
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

import sslkernels
from sslkernels.distributed import agreement
from tests.distributed.spawn import spawn

WIDTH = 64
CLASSES = 10
BATCHES = ((torch.float32, False), (torch.bfloat16, True))  # dtype, uneven shares
EXCHANGES = ("gather", "ring")
FRAME = 320  # no less than what gloo adds to a message
BYTES_ACKED = 120  # offset of tcpi_bytes_acked in struct tcp_info: what was sent, once

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's TCP_INFO")


def sent() -> int:
    """Bytes that this process's TCP connections have sent, and their peers received."""
    time.sleep(0.1)  # acknowledgements may be late
    total = 0
    for entry in Path("/proc/self/fd").iterdir():
        try:
            if not str(entry.readlink()).startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry.name))) as connection:
                if connection.family in (socket.AF_INET, socket.AF_INET6):
                    info = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
                    total += struct.unpack_from("Q", info, BYTES_ACKED)[0]
        except OSError:  # closed meanwhile
            continue
    return total


def samples(rank: int, uneven: bool) -> int:
    return 100 + 50 * rank * uneven


def nt_xent(x, y, **where):
    return sslkernels.nt_xent(x, y, **where)


def clip(x, y, **where):
    return sslkernels.clip_loss(x, y, 10.0, **where)


def siglip(x, y, **where):
    return sslkernels.siglip_loss(x, y, 10.0, -10.0, **where)


def supcon(x, y, **where):
    return sslkernels.supcon(x, torch.arange(x.shape[0]) % CLASSES, **where)


# How many travelling rows a sample has.
HEADS = {"nt_xent": (nt_xent, 2), "clip": (clip, 2), "siglip": (siglip, 1), "supcon": (supcon, 1)}


def worker(rank: int, folder: str) -> dict:
    measured, meetings = {}, 0
    store = dist.FileStore(f"{folder}/meetings", dist.get_world_size())

    def meet():
        """A barrier that sends nothing."""
        nonlocal meetings
        meetings += dist.get_world_size()
        store.add("met", 1)
        while store.add("met", 0) < meetings:
            time.sleep(0.01)

    for (dtype, uneven), exchange, name in itertools.product(BATCHES, EXCHANGES, HEADS):
        z = torch.randn(2, samples(rank, uneven), WIDTH, dtype=dtype).unbind()
        for gradient in (False, True):
            views = [x.detach().requires_grad_(gradient) for x in z]
            before = sent()
            meet()
            loss = HEADS[name][0](*views, group=dist.group.WORLD, exchange=exchange)
            if gradient:
                loss.backward()
            meet()
            measured[name, exchange, dtype, uneven, gradient] = sent() - before
            meet()
    return measured


def predicted(name, exchange, dtype, rows, rank, gradient) -> tuple[int, int]:
    """Bytes that a rank sends, as docs/scaling.md has it, and in how many messages at most."""
    world, b = len(rows), dtype.itemsize
    n, m, following = sum(rows), rows[rank], rows[(rank + 1) % world]
    # NT-Xent's views travel as one block, CLIP's towers one after the other.
    blocks = 2 if name == "clip" else 1
    if name == "clip":
        n, m, following = n // 2, m // 2, following // 2
    total, messages = (world - 1) * agreement.HEADER, world - 1
    wide = 4 if exchange == "ring" else b
    if exchange == "gather":
        largest = max(rows) // blocks
        total += blocks * (world - 1) * largest * WIDTH * b
        messages += blocks * (world - 1)
    else:
        again = 2 if gradient and name != "siglip" else 1
        total += again * blocks * (n - following) * WIDTH * b
        messages += again * blocks * (world - 1)
    if gradient:
        total += blocks * (n - m) * WIDTH * wide
        messages += blocks * (world - 1)
    if name == "supcon":
        total += (world - 1) * max(rows) * 8
        messages += world - 1
        # Each of the sums and of their gradients, as gloo sums: all but a share, twice.
        again = 2 if gradient else 1
        total += again * 2 * CLASSES * WIDTH * 4 * (world - 1) // world
        messages += again * 2 * (world - 1)
    return total, messages


@pytest.mark.parametrize("world", [2, *(pytest.param(w, marks=pytest.mark.slow) for w in (4, 8))])
def test_bytes_per_rank(tmp_path, world):
    for rank, measured in enumerate(spawn(worker, world, tmp_path, str(tmp_path))):
        for (name, exchange, dtype, uneven, gradient), actual in measured.items():
            rows = [HEADS[name][1] * samples(r, uneven) for r in range(world)]
            wanted, messages = predicted(name, exchange, dtype, rows, rank, gradient)
            assert wanted <= actual <= wanted + messages * FRAME, (name, exchange, uneven, gradient)
