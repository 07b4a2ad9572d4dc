"""How many warps of a kernel a multiprocessor holds, from its resources alone.

NVIDIA: the formulas of `cuda_occupancy.h` in the CUDA toolkit; limits from the CUDA C++ Programming
Guide, "Technical Specifications per Compute Capability". Registers are given to a warp in units of
256, from a quarter of the multiprocessor's file; shared memory to a block in units of 128 bytes, of
which the driver takes 1024 for itself.

AMD: a compute unit has four SIMDs; each gives a wave registers, of both kinds, in units of 8 from
512 for a lane, and holds 8 waves (LLVM, `AMDGPUBaseInfo.cpp` and "User Guide for AMDGPU Backend").
The local data share is given in units of 512 bytes.
"""

from __future__ import annotations

import dataclasses


@dataclasses.dataclass(frozen=True)
class Limits:
    """Of one multiprocessor (a compute unit, on AMD's GPUs).

    `registers` are those of one of its four parts, in registers of a whole warp; `register_unit`
    what a warp's share is rounded up to. `shared` bytes in all, `shared_per_block` for one block,
    `shared_reserved` what a block is given beyond what it asked for.
    """

    warp: int
    warps: int
    blocks: int
    registers: int
    register_unit: int
    shared: int
    shared_per_block: int
    shared_unit: int
    shared_reserved: int


_PARTS = 4
_KIB = 1024


def _nvidia(shared: int) -> Limits:
    return Limits(32, 64, 32, 512, 8, shared * _KIB, (shared - 1) * _KIB, 128, _KIB)


_AMD = Limits(64, 32, 32, 512, 8, 64 * _KIB, 64 * _KIB, 512, 0)

LIMITS = {
    "sm_80": _nvidia(164),
    "sm_90": _nvidia(228),
    "sm_100": _nvidia(228),
    "gfx90a": _AMD,
    "gfx942": _AMD,
}


@dataclasses.dataclass(frozen=True)
class Occupancy:
    """Blocks and warps at a time on a multiprocessor, of `most` warps; what allows no more."""

    blocks: int
    warps: int
    most: int
    limit: str

    @property
    def share(self) -> float:
        return self.warps / self.most


def occupancy(target: str, registers: int, shared: int, warps: int) -> Occupancy:
    """Of blocks of `warps`, with `registers` a thread and `shared` bytes each."""
    limits = LIMITS[target]
    bounds = {
        "registers": _by_registers(limits, registers, warps),
        "shared memory": _by_shared_memory(limits, shared),
        "warps": limits.warps // warps,
        "blocks": limits.blocks,
    }
    name, blocks = min(bounds.items(), key=lambda bound: bound[1])
    return Occupancy(blocks, blocks * warps, limits.warps, name)


def _by_registers(limits: Limits, registers: int, warps: int) -> int:
    if not registers:
        return limits.blocks
    share = _round_up(registers, limits.register_unit)
    if share * _round_up(warps, _PARTS) > limits.registers * _PARTS:
        return 0
    return limits.registers // share * _PARTS // warps


def _by_shared_memory(limits: Limits, shared: int) -> int:
    if shared > limits.shared_per_block:
        return 0
    share = _round_up(shared + limits.shared_reserved, limits.shared_unit)
    return limits.shared // share if share else limits.blocks


def _round_up(number: int, unit: int) -> int:
    return -(-number // unit) * unit
