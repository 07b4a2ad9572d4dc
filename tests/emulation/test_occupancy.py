"""Occupancy against NVIDIA's own header, against what LLVM prints, and by hand."""

from __future__ import annotations

import itertools
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.emulation.occupancy import LIMITS, Occupancy, occupancy

REGISTERS = (16, 32, 33, 64, 72, 96, 128, 129, 168, 200, 248, 255)
SHARED = (0, 1, 1024, 16384, 49152, 66560, 99 * 1024, 163 * 1024, 163 * 1024 + 1, 227 * 1024)
WARPS = (1, 2, 3, 4, 8, 12, 16, 32)

PROGRAM = r"""
#include <cuda_occupancy.h>
#include <cstdio>
int main() {
    int major, registers, shared, warps, size;
    while (scanf("%d %d %d %d %d", &major, &size, &registers, &shared, &warps) == 5) {
        cudaOccDeviceProp device;
        device.computeMajor = major;
        device.maxThreadsPerBlock = 1024;
        device.maxThreadsPerMultiprocessor = 2048;
        device.regsPerBlock = device.regsPerMultiprocessor = 65536;
        device.warpSize = 32;
        device.sharedMemPerBlock = 48 * 1024;
        device.sharedMemPerMultiprocessor = size * 1024;
        device.sharedMemPerBlockOptin = (size - 1) * 1024;
        device.reservedSharedMemPerBlock = 1024;
        device.numSms = 1;
        cudaOccFuncAttributes function;
        function.maxThreadsPerBlock = 1024;
        function.numRegs = registers;
        function.shmemLimitConfig = FUNC_SHMEM_LIMIT_OPTIN;
        function.maxDynamicSharedSizeBytes = (size - 1) * 1024;
        cudaOccDeviceState state;
        state.carveoutConfig = SHAREDMEM_CARVEOUT_MAX_SHARED;
        cudaOccResult result;
        if (cudaOccMaxActiveBlocksPerMultiprocessor(
                &result, &device, &function, &state, warps * 32, shared))
            return 1;
        printf("%d\n", result.activeBlocksPerMultiprocessor);
    }
}
"""


def test_against_nvidias_header(tmp_path):
    triton = pytest.importorskip("triton")
    headers = Path(triton.__file__).parent / "backends/nvidia/include"
    compiler = shutil.which("g++") or shutil.which("c++") or shutil.which("clang++")
    if compiler is None or not (headers / "cuda_occupancy.h").exists():
        pytest.skip("no C++ compiler, or no cuda_occupancy.h beside Triton")
    (tmp_path / "ask.cpp").write_text(PROGRAM)
    program = tmp_path / "ask"
    command = [compiler, f"-I{headers}", "-w", "-o", str(program), str(tmp_path / "ask.cpp")]
    subprocess.run(command, check=True)
    targets = [name for name in LIMITS if name.startswith("sm_")]
    asked = list(itertools.product(targets, REGISTERS, SHARED, WARPS))
    lines = [
        f"{int(target[3:]) // 10} {LIMITS[target].shared // 1024} {registers} {shared} {warps}"
        for target, registers, shared, warps in asked
    ]
    answer = subprocess.run(
        [str(program)], input="\n".join(lines), capture_output=True, text=True, check=True
    )
    expected = [int(line) for line in answer.stdout.split()]
    assert [occupancy(*case).blocks for case in asked] == expected


@pytest.mark.parametrize(
    ("target", "registers", "shared", "warps", "found"),
    [
        # 128 registers: 65536 / (128 * 32) = 16 warps.
        ("sm_80", 128, 16 * 1024, 4, Occupancy(4, 16, 64, "registers")),
        # 164 / (48 + 1) = 3.3 blocks.
        ("sm_80", 32, 48 * 1024, 4, Occupancy(3, 12, 64, "shared memory")),
        ("sm_90", 32, 48 * 1024, 4, Occupancy(4, 16, 64, "shared memory")),
        ("sm_80", 32, 0, 8, Occupancy(8, 64, 64, "registers")),
        ("sm_80", 16, 0, 8, Occupancy(8, 64, 64, "warps")),
        ("sm_80", 16, 0, 1, Occupancy(32, 32, 64, "blocks")),
        ("sm_80", 255, 0, 32, Occupancy(0, 0, 64, "registers")),
        ("sm_80", 32, 164 * 1024, 4, Occupancy(0, 0, 64, "shared memory")),
        # 200 registers: 512 / 200 = 2 waves on each of four SIMDs.
        ("gfx942", 200, 0, 4, Occupancy(2, 8, 32, "registers")),
        ("gfx942", 64, 32 * 1024, 4, Occupancy(2, 8, 32, "shared memory")),
        ("gfx90a", 64, 0, 4, Occupancy(8, 32, 32, "registers")),
    ],
)
def test_by_hand(target, registers, shared, warps, found):
    assert occupancy(target, registers, shared, warps) == found


@pytest.mark.parametrize(
    ("registers", "waves"), [(92, 5), (98, 4), (191, 2), (396, 1), (64, 8), (128, 4)]
)
def test_waves_of_a_simd_as_llvm_prints_them(registers, waves):
    """The comments `TotalNumVgprs` and `Occupancy` below kernels compiled for gfx942."""
    assert occupancy("gfx942", registers, 0, 4).warps // 4 == waves
