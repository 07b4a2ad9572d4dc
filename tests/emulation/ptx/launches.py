"""Runs the launches of Triton kernels in the emulator, as they were compiled for sm_80.

An operator's own Python chooses configurations, allocates and launches, all of it with CPU tensors;
Triton compiles for the GPU that is not there, and its PTX is run in place of the binary.
"""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import torch

from tests.emulation import offline
from tests.emulation.ptx.counts import Counts
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.text import kernels

TARGET = "sm_80"
"""Later GPUs multiply with wgmma and tcgen05, which the emulator lacks."""


@dataclasses.dataclass(frozen=True)
class Launched:
    """A kernel that was run: its name, its tile, how many programs of it, what it moved."""

    kernel: str
    tile: dict[str, int]
    programs: int
    counts: Counts


@contextlib.contextmanager
def emulated(change: Callable[[str], str] = lambda ptx: ptx) -> Iterator[list[Launched]]:
    """Inside, launches run in the emulator and are appended to the list.

    `change` may alter the PTX first, to see that the checks notice.
    """
    found: list[Launched] = []

    def run(compiled: Any, function: Any, grid: tuple[int, ...], arguments: Any) -> None:
        [kernel] = kernels(change(compiled.asm["ptx"])).values()
        x, y, z = (*grid, 1, 1)[:3]
        values = _values(compiled, arguments)
        shared = compiled.metadata.shared
        counts = launch(kernel, (x, y, z), values, dynamic_shared=shared)
        found.append(Launched(function.__name__, _tile(compiled, arguments), x * y * z, counts))

    with offline.compiled_launches(TARGET, run):
        yield found


def _tile(compiled: Any, arguments: dict[str, Any]) -> dict[str, int]:
    """The constants that a configuration chose, by name."""
    sizes = {name: x for name, x in arguments.items() if "BLOCK" in name or name == "WIDTH"}
    return sizes | {"warps": compiled.metadata.num_warps, "stages": compiled.metadata.num_stages}


def _values(compiled: Any, arguments: dict[str, Any]) -> list[Any]:
    """Those arguments that became no constants, then two scratch pointers that no kernel uses."""
    kept = [name for name, kind in compiled.src.signature.items() if kind != "constexpr"]
    values = [arguments[name] for name in kept]
    return [_bytes(x) if isinstance(x, torch.Tensor) else x for x in values] + [0, 0]


def _bytes(tensor: torch.Tensor) -> Any:
    """The memory between a tensor's first and last element."""
    steps = zip(tensor.shape, tensor.stride(), strict=True)
    elements = 1 + sum((n - 1) * step for n, step in steps) if tensor.numel() else 0
    return torch.as_strided(tensor.detach(), (elements,), (1,)).view(torch.uint8).numpy()
