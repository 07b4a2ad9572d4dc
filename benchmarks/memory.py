"""Peak extra memory of one training step, measured in a fresh process of its own.

A profiler of torch's allocator does not see what a C++ kernel allocates by itself, so on a CPU
this is resident memory: its peak during the step, above what stood before with the inputs in
place, less the gradients that every implementation has to return. On a GPU it is the same
difference of torch's allocator, which every implementation uses there.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from benchmarks import text
from benchmarks.case import Case
from benchmarks.errors import brief

ROOT = Path(__file__).resolve().parent.parent
CHILD_SECONDS = 900
# With a fixed threshold, freed blocks go back to the system and are not counted twice.
CHILD_ENVIRONMENT = {"MALLOC_MMAP_THRESHOLD_": "131072", "MALLOC_TRIM_THRESHOLD_": "131072"}


@dataclass(frozen=True)
class Memory:
    """Extra bytes at the peak of one forward + backward, or the `reason` why there is no figure.

    `seconds` is one warm call in the child: for orientation only, it is not an interleaved timing.
    """

    implementation: str
    peak_extra_bytes: int | None = None
    percent_of_eager: float | None = None
    seconds: float | None = None
    method: str | None = None
    reason: str | None = None


def free_and_total(device: str) -> tuple[int, int] | None:
    """Bytes that can still be allocated on the device, and all it has; None when unknown."""
    if torch.device(device).type == "cuda":
        return torch.cuda.mem_get_info(device)
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return None
    kib = {name: int(value.split()[0]) for name, value in (line.split(":") for line in lines)}
    if "MemAvailable" not in kib:
        return None
    return kib["MemAvailable"] * 1024, kib["MemTotal"] * 1024


def does_not_fit(needed: int, device: str) -> str | None:
    """Why a step that needs `needed` extra bytes is not tried, or None when it fits."""
    memory = free_and_total(device)
    if memory is None or needed <= 0.85 * memory[0]:
        return None
    total = f"{memory[1] / 2**30:.0f} GiB"
    return f"needs about {text.size(needed)}; this machine has {total}, not all of it free"


def measure(case: Case, implementation: str) -> Memory:
    """Run one step of `implementation` in a child process and report its peak."""
    request = json.dumps({"case": asdict(case), "implementation": implementation})
    try:
        child = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory_child"],
            input=request,
            cwd=ROOT,
            env=os.environ | CHILD_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=CHILD_SECONDS,
        )
    except subprocess.TimeoutExpired:
        return Memory(implementation, reason=f"took more than {CHILD_SECONDS} s")
    if child.returncode == -9:
        return Memory(implementation, reason="killed by the system, most likely out of memory")
    if child.returncode != 0:
        lines = child.stderr.strip().splitlines() or [f"exit code {child.returncode}"]
        return Memory(implementation, reason=f"failed: {brief(lines[-1])}")
    return Memory(implementation, **json.loads(child.stdout.splitlines()[-1]))


def peak_of(step: Callable[[], object], device: str) -> tuple[int, str]:
    """Bytes at the peak of `step` above what stood before, and how they were measured."""
    gc.collect()
    if torch.device(device).type == "cuda":
        return _cuda_peak(step, device)
    _return_free_memory()
    before = _status_bytes("VmRSS")
    if before is None:
        raise OSError("peak memory needs /proc, which this system does not have")
    if _reset_high_water():
        step()
        peak = _status_bytes("VmHWM")
        return (peak or before) - before, "peak resident memory (VmHWM)"
    return _sampled_peak(step) - before, "resident memory sampled every millisecond"


def _cuda_peak(step: Callable[[], object], device: str) -> tuple[int, str]:
    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    step()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before, "torch's CUDA allocator"


def _return_free_memory() -> None:
    # Elsewhere than in glibc, what is free stays resident and hides part of the peak.
    with contextlib.suppress(AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int | None:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(field)), None)


def _reset_high_water() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def _sampled_peak(step: Callable[[], object]) -> int:
    peak = 0
    finished = threading.Event()

    def sample() -> None:
        nonlocal peak
        while not finished.is_set():
            peak = max(peak, _status_bytes("VmRSS") or 0)
            time.sleep(1e-3)

    sampler = threading.Thread(target=sample)
    sampler.start()
    try:
        step()
    finally:
        finished.set()
        sampler.join()
    return peak
