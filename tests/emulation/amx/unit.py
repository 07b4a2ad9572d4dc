"""Whether the AMX tile unit is there, and what a compiler needs where it has to be emulated."""

from __future__ import annotations

from pathlib import Path

from sslkernels.native import flags
from sslkernels.native.isa import allow_amx, cpu_features

INCLUDE = Path(__file__).parent / "include"


def is_real() -> bool:
    """Whether this process may use the processor's own unit."""
    return _has("AMX") and allow_amx()


def why_not_emulated() -> str:
    """Why the emulated unit does not run here, or an empty string if it does."""
    if "AMX" not in flags.ISAS:
        return "this is no x86-64"
    return "" if _has("AVX512_BF16") else "the emulation needs AVX512_BF16"


def compiler_options() -> list[str]:
    """What makes a compiler find the emulated unit, unless there is a real one."""
    return [] if is_real() else ["-isystem", str(INCLUDE)]


def _has(isa: str) -> bool:
    return isa in flags.ISAS and flags.ISAS[isa].cpu_features <= (cpu_features() or frozenset())
