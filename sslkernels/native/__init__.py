"""Finds, or builds, and loads the C++ kernels: after ``load()``, ``torch.ops.sslkernels`` has them.

A library built at installation is used when it was made from these very sources and flags;
otherwise one is compiled on first use and kept. One library is loaded in a process, for one
instruction set: see ``isa.candidates``.
"""

from __future__ import annotations

import contextlib
import os
import threading
from dataclasses import dataclass
from pathlib import Path

import torch

from . import build, cuda, flags
from . import isa as _isa
from .build import NativeUnavailable

__all__ = ["Library", "NativeUnavailable", "info", "isa", "load", "load_cuda"]

AHEAD_OF_TIME = Path(__file__).parent
"""Where ``setup.py`` puts the libraries that it builds."""


@dataclass(frozen=True)
class Library:
    """The loaded kernels: their instruction set, file and provenance."""

    isa: str
    path: Path
    origin: str


_lock = threading.Lock()
_outcome: Library | NativeUnavailable | None = None
_cuda_lock = threading.Lock()
_cuda_outcome: Library | NativeUnavailable | None = None


def load() -> Library:
    """Load the kernels, compiling them first if need be. Later calls return at once.

    Raises:
        NativeUnavailable: an ImportError whose message says why; a later call raises it again
            without a second attempt.
    """
    global _outcome
    if _outcome is None:
        with _lock:
            if _outcome is None:
                try:
                    _outcome = _load()
                except NativeUnavailable as error:
                    _outcome = error
    if isinstance(_outcome, NativeUnavailable):
        raise NativeUnavailable(str(_outcome))
    return _outcome


def load_cuda() -> Library:
    """Load the CUDA kernels of the operators that ``load()`` defines; compile them if need be.

    A library built at installation is used, else one is compiled with the nvcc of this machine for
    the GPUs of this machine (TORCH_CUDA_ARCH_LIST overrules) and kept.

    Raises:
        NativeUnavailable: as ``load``; among the reasons are that there is no nvcc or no GPU.
    """
    global _cuda_outcome
    load()
    with _cuda_lock:
        if _cuda_outcome is None:
            try:
                _cuda_outcome = _load_cuda(flags.csrc_root())
            except NativeUnavailable as error:
                _cuda_outcome = error
    if isinstance(_cuda_outcome, NativeUnavailable):
        raise NativeUnavailable(str(_cuda_outcome))
    return _cuda_outcome


def info() -> Library | None:
    """The loaded library, or None when none has been loaded. Never builds."""
    return _outcome if isinstance(_outcome, Library) else None


def isa() -> str:
    """Name of the instruction set that is loaded, or that ``load()`` would try first.

    Raises:
        NativeUnavailable: SSLKERNELS_CPU_ISA asks for what this machine lacks.
    """
    library = info()
    return library.isa if library else _candidates()[0]


def _candidates() -> list[str]:
    capability = torch.backends.cpu.get_cpu_capability()
    names = _isa.candidates(os.environ, capability, _isa.cpu_features())
    allowed = [name for name in names if name != "AMX" or _isa.allow_amx()]
    if not allowed:
        raise NativeUnavailable("the operating system does not let this process use AMX")
    return allowed


def _load() -> Library:
    try:
        root = flags.csrc_root()
    except FileNotFoundError as error:
        raise NativeUnavailable(str(error)) from error
    *others, last = _candidates()
    for name in others:
        # A compiler too old for the best instruction set still serves the next one.
        with contextlib.suppress(build.NoCompiler):
            return _open(name, root)
    return _open(last, root)


def _load_cuda(root: Path) -> Library:
    if os.environ.get(cuda.ENVIRONMENT) == "0":
        raise NativeUnavailable(f"{cuda.ENVIRONMENT} is 0")
    if library := _open_ahead("CUDA", flags.cuda_library_name(root)):
        return library
    wanted = cuda.architectures(os.environ, _cards())
    if not wanted:
        raise NativeUnavailable(
            f"there is no GPU to compile the CUDA kernels for, and {cuda.ARCHITECTURES} names none"
        )
    return _open_cached("CUDA", root, flags.CUDA_HOST, cuda.find_toolkit(wanted))


def _cards() -> list[str]:
    """The architectures of this machine's GPUs, as TORCH_CUDA_ARCH_LIST spells them."""
    if torch.version.cuda is None or not torch.cuda.is_available():
        return []
    cards = (torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))
    return sorted({f"{major}.{minor}" for major, minor in cards})


def _open(name: str, root: Path) -> Library:
    ahead = _open_ahead(name, flags.library_name(root, name))
    return ahead or _open_cached(name, root, name)


def _open_ahead(name: str, file: str) -> Library | None:
    ahead = AHEAD_OF_TIME / file
    if not ahead.is_file():
        return None
    try:
        torch.ops.load_library(str(ahead))
    except OSError:
        return None  # made for a torch that this one is not: compile our own
    return Library(name, ahead, "built at installation")


def _open_cached(name: str, root: Path, isa: str, toolkit: cuda.Toolkit | None = None) -> Library:
    entry = build.cached_library(
        isa,
        root=root,
        torch_root=Path(torch.__file__).parent,
        torch_version=torch.__version__,
        cache=build.cache_root(),
        toolkit=toolkit,
    )
    try:
        torch.ops.load_library(str(entry.path))
    except OSError as error:
        raise NativeUnavailable(f"cannot load {entry.path}: {error}") from error
    how = "compiled now" if entry.built else "compiled on first use"
    return Library(name, entry.path, f"{how} in {entry.seconds:.1f} s by {entry.compiler}")
