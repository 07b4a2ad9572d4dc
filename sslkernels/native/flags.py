"""What is compiled, for which instruction set, with which flags.

Both ways of building read this list: ``setup.py`` (ahead of time) and ``load()`` (first use).
Nothing here imports torch, since ``setup.py`` must be able to read it.
"""

from __future__ import annotations

import hashlib
import platform
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

# The oldest release whose stable ABI we use: a library built for it also loads on later ones.
TORCH_TARGET_VERSION = "0x020a000000000000"

COMMON = (
    "-std=c++20",
    "-O3",
    "-fPIC",
    "-fvisibility=hidden",
    "-ffp-contract=fast",
    # It reads fields of small structs, just written one by one, in pairs: such a read waits until
    # all stores before it are through. Loops are vectorized all the same.
    "-fno-tree-slp-vectorize",
    "-Wall",
    "-Wextra",
    "-Wno-psabi",
    "-DTORCH_STABLE_ONLY",
    f"-DTORCH_TARGET_VERSION={TORCH_TARGET_VERSION}",
)

# Of .cu files, architectures aside. Nothing is fused that the source does not fuse, so that results
# are those of the CPU where operations are exact; functions of the host that are constexpr may run
# on the device. Lines for a profiler would be three quarters of the library: nvcc itself takes
# NVCC_APPEND_FLAGS=-lineinfo from the environment.
CUDA = (
    "-std=c++20",
    "-O3",
    "-fmad=false",
    "--expt-relaxed-constexpr",
    "-Xcompiler=-fPIC,-fvisibility=hidden",
)
CUDA_HOST = "DEFAULT"
"""The instruction set of what runs on the host in the library with the CUDA kernels."""

_FOR_CUDA = "cuda_"  # what .cpp files begin with that belong to the CUDA kernels


@dataclass(frozen=True)
class Isa:
    """One instruction set: the compiler flags that allow it and what the CPU must have."""

    name: str
    flags: tuple[str, ...] = ()
    cpu_features: frozenset[str] = frozenset()  # as /proc/cpuinfo spells them


_AVX2 = ("avx2", "fma", "f16c")
_AVX512 = ("avx512f", "avx512bw", "avx512vl", "avx512dq", "fma", "f16c")


def _isas() -> dict[str, Isa]:
    isas = [Isa("DEFAULT")]
    if platform.machine().lower() in ("x86_64", "amd64"):
        avx512 = tuple(f"-m{feature}" for feature in _AVX512)
        isas += [
            Isa("AVX2", tuple(f"-m{feature}" for feature in _AVX2), frozenset(_AVX2)),
            Isa("AVX512", avx512, frozenset(_AVX512)),
            Isa(
                "AVX512_BF16",
                (*avx512, "-mavx512bf16"),
                frozenset((*_AVX512, "avx512_bf16")),
            ),
            Isa(
                "AMX",
                (*avx512, "-mavx512bf16", "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
                frozenset((*_AVX512, "avx512_bf16", "amx_tile", "amx_bf16", "amx_int8")),
            ),
        ]
    return {isa.name: isa for isa in isas}


ISAS = _isas()
"""The instruction sets of this machine's architecture by name, the plainest first."""


def compile_flags(isa: str) -> list[str]:
    """Flags of every source file compiled for ``isa``, include paths aside."""
    return [*COMMON, f"-DSSLK_ISA_{isa}=1", *ISAS[isa].flags]


def link_flags(torch_root: Path) -> list[str]:
    """Flags that link a library against the torch at ``torch_root``.

    There is no run path: torch is always imported, hence loaded, before the library is.
    """
    if sys.platform == "darwin":
        return ["-dynamiclib", "-undefined", "dynamic_lookup"]
    return ["-shared", "-Wl,--as-needed", f"-L{torch_root / 'lib'}", "-ltorch_cpu", "-lc10"]


def csrc_root() -> Path:
    """The folder of the C++ sources: beside the package in a checkout, inside it once installed.

    Raises:
        FileNotFoundError: neither place has them.
    """
    package = Path(__file__).resolve().parents[1]
    places = (package.parent / "csrc", package / "csrc")
    for place in places:
        if (place / "library.cpp").is_file():
            return place
    raise FileNotFoundError(f"no C++ sources in {places[0]} nor in {places[1]}")


def sources(root: Path) -> list[Path]:
    """Every C++ source below ``root`` of the CPU's library, in a fixed order."""
    return sorted(p for p in root.rglob("*.cpp") if not p.name.startswith(_FOR_CUDA))


def cuda_sources(root: Path) -> list[Path]:
    """The sources of the library with the CUDA kernels: kernels, and how torch calls them."""
    host = [p for p in root.rglob("*.cpp") if p.name.startswith(_FOR_CUDA)]
    return sorted([*host, *root.rglob("*.cu")])


def fingerprint(root: Path, isa: str) -> str:
    """Hash of all that this package puts into a library: sources, headers and flags.

    It is part of a library's file name, so that an edited source never meets an old library.
    """
    return _fingerprint((compile_flags(isa), link_flags(Path("torch"))), root, sources(root))


def cuda_fingerprint(root: Path, architectures: Sequence[str] = ()) -> str:
    """The same of the library with the CUDA kernels."""
    options = (CUDA, tuple(architectures), compile_flags(CUDA_HOST), link_flags(Path("torch")))
    return _fingerprint(options, root, cuda_sources(root))


def _fingerprint(options: tuple[object, ...], root: Path, of: Sequence[Path]) -> str:
    digest = hashlib.sha256(repr((options, sys.platform, platform.machine())).encode())
    for path in sorted([*of, *root.rglob("*.h")]):
        content = path.read_bytes()
        digest.update(f"{path.relative_to(root).as_posix()}:{len(content)}:".encode())
        digest.update(content)
    return digest.hexdigest()[:16]


def library_name(root: Path, isa: str) -> str:
    """File name of the library built ahead of time from the sources in ``root``."""
    return f"sslkernels-{isa.lower()}-{fingerprint(root, isa)}.so"


def cuda_library_name(root: Path) -> str:
    """The same of the library with the CUDA kernels."""
    return f"sslkernels-cuda-{cuda_fingerprint(root)}.so"
