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

from . import build, flags
from . import isa as _isa
from .build import NativeUnavailable

__all__ = ["Library", "NativeUnavailable", "info", "isa", "load"]

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


def _open(name: str, root: Path) -> Library:
    ahead = AHEAD_OF_TIME / flags.library_name(root, name)
    if ahead.is_file():
        try:
            torch.ops.load_library(str(ahead))
            return Library(name, ahead, "built at installation")
        except OSError:
            pass  # made for a torch that this one is not: compile our own
    entry = build.cached_library(
        name,
        root=root,
        torch_root=Path(torch.__file__).parent,
        torch_version=torch.__version__,
        cache=build.cache_root(),
    )
    try:
        torch.ops.load_library(str(entry.path))
    except OSError as error:
        raise NativeUnavailable(f"cannot load {entry.path}: {error}") from error
    how = "compiled now" if entry.built else "compiled on first use"
    return Library(name, entry.path, f"{how} in {entry.seconds:.1f} s by {entry.compiler}")
