"""Which instruction set to run: the environment, the CPU and the operating system decide."""

from __future__ import annotations

import ctypes
import platform
import sys
from collections.abc import Mapping
from pathlib import Path

from . import flags
from .build import NativeUnavailable

ENVIRONMENT = "SSLKERNELS_CPU_ISA"

_SYS_ARCH_PRCTL = 158  # x86-64 Linux
_ARCH_REQ_XCOMP_PERM = 0x1023
_XFEATURE_XTILEDATA = 18


def candidates(
    environ: Mapping[str, str], capability: str, features: frozenset[str] | None
) -> list[str]:
    """Names of the instruction sets to try, best first.

    Args:
        environ: where SSLKERNELS_CPU_ISA is looked up; it overrules the rest.
        capability: ``torch.backends.cpu.get_cpu_capability()``, which honours ATEN_CPU_CAPABILITY.
        features: ``cpu_features()``.

    Raises:
        NativeUnavailable: SSLKERNELS_CPU_ISA names an unknown set, or one this CPU lacks.
    """
    if wanted := environ.get(ENVIRONMENT):
        isa = flags.ISAS.get(wanted.upper())
        if isa is None:
            known = ", ".join(name.lower() for name in flags.ISAS)
            raise NativeUnavailable(f"{ENVIRONMENT} is {wanted!r}; on this machine: {known}")
        if features is not None and not isa.cpu_features <= features:
            missing = " ".join(sorted(isa.cpu_features - features))
            raise NativeUnavailable(f"{ENVIRONMENT} is {wanted!r}, but this CPU lacks {missing}")
        return [isa.name]
    base = capability if capability in flags.ISAS else "DEFAULT"
    if base != "AVX512" or features is None:
        return [base]
    better = (name for name in ("AMX", "AVX512_BF16") if flags.ISAS[name].cpu_features <= features)
    return [*better, base]


def cpu_features() -> frozenset[str] | None:
    """What /proc/cpuinfo lists for the first CPU, or None where there is no such file."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return None
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return None


def allow_amx() -> bool:
    """Ask the kernel to let this process use the tile registers; True when it does."""
    if not sys.platform.startswith("linux") or platform.machine() != "x86_64":
        return False
    libc = ctypes.CDLL(None, use_errno=True)
    return libc.syscall(_SYS_ARCH_PRCTL, _ARCH_REQ_XCOMP_PERM, _XFEATURE_XTILEDATA) == 0
