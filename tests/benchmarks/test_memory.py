"""The peak is what was allocated, whoever allocated it."""

from __future__ import annotations

import ctypes

import pytest
import torch

from benchmarks import memory
from benchmarks.case import Case
from benchmarks.memory import Memory

MIB = 2**20
needs_proc = pytest.mark.skipif(
    memory.free_and_total("cpu") is None, reason="peak memory is read from /proc"
)


def _c_allocation(size: int) -> None:
    """Allocate and touch `size` bytes behind torch's back, as a C++ kernel does."""
    libc = ctypes.CDLL(None)
    libc.malloc.restype = ctypes.c_void_p
    libc.malloc.argtypes = [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)


@needs_proc
@pytest.mark.parametrize(
    "resettable",
    [
        pytest.param(
            True,
            marks=pytest.mark.skipif(
                not memory._reset_high_water(), reason="this system does not let it be reset"
            ),
        ),
        False,
    ],
)
def test_peak_sees_what_was_freed_again(monkeypatch: pytest.MonkeyPatch, resettable: bool) -> None:
    if not resettable:
        monkeypatch.setattr(memory, "_reset_high_water", lambda: False)

    def step() -> None:
        # Long enough for the sampler to look.
        for _ in range(20):
            _c_allocation(64 * MIB)

    peak, method = memory.peak_of(step, "cpu")
    assert 56 * MIB < peak < 96 * MIB
    assert ("VmHWM" in method) == resettable


@needs_proc
def test_child_process_measures_the_dense_logits() -> None:
    case = Case("nt_xent", (2048, 16), "float32", threads=1, parameters={"temperature": 0.1})
    found = memory.measure(case, "eager")
    assert found.reason is None
    logits = 2048 * 2048 * 4
    assert found.peak_extra_bytes is not None
    assert 1.8 * logits < found.peak_extra_bytes < 6 * logits


def test_a_failing_child_is_a_reason_and_no_crash() -> None:
    case = Case("nt_xent", (16, 8), "float32", threads=1, parameters={})
    found = memory.measure(case, "eager")
    assert found == Memory("eager", reason="failed: KeyError: 'temperature'")


@needs_proc
def test_what_cannot_fit_is_said_with_the_need() -> None:
    assert memory.does_not_fit(1, "cpu") is None
    assert "needs about 32.0 TiB" in (memory.does_not_fit(2**45, "cpu") or "")


@needs_proc
def test_torch_allocations_are_seen_too() -> None:
    peak, _ = memory.peak_of(lambda: torch.ones(32 * MIB // 4), "cpu")
    assert 28 * MIB < peak < 64 * MIB
