"""docs/scaling.md against the bytes that the sockets of each rank have sent."""

from __future__ import annotations

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
FRAME = 320  # no less than what gloo adds to a collective for each other rank
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

    for dtype in (torch.float32, torch.bfloat16):
        for uneven in (False, True):
            z = torch.randn(2, samples(rank, uneven), WIDTH, dtype=dtype).unbind()
            for gradient in (False, True):
                views = [x.detach().requires_grad_(gradient) for x in z]
                before = sent()
                meet()
                loss = sslkernels.nt_xent(*views, group=dist.group.WORLD)
                if gradient:
                    loss.backward()
                meet()
                measured[dtype, uneven, gradient] = sent() - before
                meet()
    return measured


@pytest.mark.parametrize("world", [2, pytest.param(4, marks=pytest.mark.slow)])
def test_bytes_per_rank(tmp_path, world):
    for rank, measured in enumerate(spawn(worker, world, tmp_path, str(tmp_path))):
        for (dtype, uneven, gradient), actual in measured.items():
            rows = [2 * samples(r, uneven) for r in range(world)]
            row = WIDTH * dtype.itemsize
            wanted = (world - 1) * (agreement.HEADER + max(rows) * row)
            frames = 2 * (world - 1)
            if gradient:
                wanted += (sum(rows) - rows[rank]) * row
                frames += world - 1
            assert wanted <= actual <= wanted + frames * FRAME
