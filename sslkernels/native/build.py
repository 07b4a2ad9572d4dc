"""Compiles the C++ sources into one shared library, and keeps it in a cache.

The compiler is called directly, once per source, in a pool: the stable-ABI headers are small, so a
source takes seconds and a build system would add nothing but something that can be missing.

The cache survives what happens to caches. Its entries are named by everything that shaped them, are
written aside and renamed into place whole, carry a digest that is checked before they are loaded,
and are built under an operating-system lock, which dies with the process that holds it.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shlex
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from . import flags

if TYPE_CHECKING:
    from .cuda import Toolkit

_LIBRARY = "library.so"
_MANIFEST = "manifest.json"
_TAIL_LINES = 30  # of the compiler's output in an error message


class NativeUnavailable(ImportError):
    """The C++ kernels cannot be used here; the message says why and what to do."""


class NoCompiler(NativeUnavailable):
    """There is no compiler, or none that knows the flags of the instruction set."""


@dataclass(frozen=True)
class Compiler:
    """A C++ compiler: the words of its command and the first line of its ``--version``."""

    command: tuple[str, ...]
    version: str

    def accepts(self, options: Sequence[str]) -> bool:
        """Whether the compiler knows all of ``options``."""
        probe = [*self.command, *options, "-fsyntax-only", "-x", "c++", os.devnull]
        return subprocess.run(probe, capture_output=True, check=False).returncode == 0


def find_compiler() -> Compiler:
    """``$CXX`` when set, else the first of c++, g++ and clang++ on the path.

    Raises:
        NoCompiler: there is none, or it does not run.
    """
    wanted = os.environ.get("CXX")
    commands = [shlex.split(wanted)] if wanted else [["c++"], ["g++"], ["clang++"]]
    command = next((c for c in commands if c and shutil.which(c[0])), None)
    if command is None:
        tried = f"CXX={wanted!r}" if wanted else "c++, g++ and clang++"
        raise NoCompiler(
            f"no C++ compiler: {tried} not found on PATH. Install g++ (11 or newer) or clang++, "
            "or set CXX to one."
        )
    result = subprocess.run(
        [*command, "--version"], capture_output=True, text=True, errors="replace", check=False
    )
    if result.returncode != 0:
        raise NoCompiler(f"`{shlex.join(command)} --version` failed:\n{_tail(result)}")
    return Compiler(tuple(command), result.stdout.partition("\n")[0].strip())


def compile_library(
    output: Path,
    *,
    isa: str,
    sources: Sequence[Path],
    include: Path,
    torch_root: Path,
    compiler: Compiler,
    toolkit: Toolkit | None = None,
) -> None:
    """Compile ``sources`` for ``isa`` and link them into ``output``, which appears whole or not.

    Args:
        output: the shared library to write; its folder must exist.
        isa: a name from ``flags.ISAS``.
        sources: C++ files.
        include: folder searched for the sources' own headers.
        torch_root: folder of the torch package, with its headers and libraries.
        compiler: from ``find_compiler()``.
        toolkit: from ``cuda.find_toolkit()``; needed where .cu files are among the sources.

    Raises:
        NativeUnavailable: with the tail of the compiler's output when it fails.
    """
    if not sources:
        raise NativeUnavailable(f"no C++ sources in {include}")
    options = [*flags.compile_flags(isa), f"-I{include}", "-isystem", str(torch_root / "include")]
    with tempfile.TemporaryDirectory(prefix=f".{output.name}.", dir=output.parent) as scratch:
        objects = [str(Path(scratch) / f"{i}.o") for i in range(len(sources))]
        commands = []
        for source, obj in zip(sources, objects, strict=True):
            command = [*compiler.command, *options]
            if toolkit and source.suffix == ".cu":
                command = [str(toolkit.nvcc), *flags.CUDA, *toolkit.code_flags(), f"-I{include}"]
            commands.append([*command, "-c", str(source), "-o", obj])
        with ThreadPoolExecutor(_jobs()) as pool:
            list(pool.map(_run, commands))
        linked = Path(scratch) / _LIBRARY
        link = [*flags.link_flags(torch_root), *(toolkit.link_flags() if toolkit else [])]
        _run([*compiler.command, *objects, *link, "-o", str(linked)])
        linked.replace(output)


@dataclass(frozen=True)
class Entry:
    """A library in the cache, found or just built."""

    path: Path
    built: bool
    compiler: str
    seconds: float  # what building it took, whenever that was


def cache_root() -> Path:
    """Where libraries compiled on first use are kept."""
    if extensions := os.environ.get("TORCH_EXTENSIONS_DIR"):
        return Path(extensions).expanduser() / "sslkernels"
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(cache).expanduser() / "sslkernels"


def cached_library(
    isa: str,
    *,
    root: Path,
    torch_root: Path,
    torch_version: str,
    cache: Path,
    toolkit: Toolkit | None = None,
) -> Entry:
    """The library of the sources in ``root`` for ``isa``: from ``cache``, else compiled into it.

    With a toolkit that of the CUDA kernels.

    Any number of processes may ask at once: one compiles, the others wait for it.

    Raises:
        NoCompiler: no compiler, or one that does not know the flags of ``isa``.
        NativeUnavailable: the compiler failed, or the cache cannot be written.
    """
    if toolkit:
        made_of = flags.cuda_fingerprint(root, toolkit.architectures)
        key = f"cuda-{_hash(made_of, torch_version, str(toolkit.nvcc), toolkit.version)}"
    else:
        key = f"{isa.lower()}-{_hash(flags.fingerprint(root, isa), torch_version)}"
    try:
        compiler = find_compiler()
    except NoCompiler:
        # An earlier library is as good without its compiler, as in an image that shed its tools.
        for candidate in sorted(cache.glob(f"{key}-*")):
            if entry := _read(candidate):
                return entry
        raise
    place = cache / f"{key}-{_hash(*compiler.command, compiler.version)}"
    if entry := _read(place):
        return entry
    if not compiler.accepts(flags.compile_flags(isa)):
        raise NoCompiler(f"{compiler.version} does not know the flags for {isa}")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with _locked(place.with_name(place.name + ".lock")):
            # Another process may have built it while this one waited.
            return _read(place) or _build(place, isa, root, torch_root, compiler, toolkit)
    except OSError as error:
        raise NativeUnavailable(
            f"cannot write the compiled kernels to {cache} ({error}); "
            "set TORCH_EXTENSIONS_DIR to a folder that can be written"
        ) from error


def _build(
    place: Path,
    isa: str,
    root: Path,
    torch_root: Path,
    compiler: Compiler,
    toolkit: Toolkit | None,
) -> Entry:
    # We hold the lock: what a killed build left aside belongs to nobody.
    for leftover in place.parent.glob(f"{place.name}.tmp*"):
        shutil.rmtree(leftover, ignore_errors=True)
    started = time.perf_counter()
    aside = Path(tempfile.mkdtemp(prefix=f"{place.name}.tmp", dir=place.parent))
    try:
        library = aside / _LIBRARY
        compile_library(
            library,
            isa=isa,
            sources=flags.cuda_sources(root) if toolkit else flags.sources(root),
            include=root,
            torch_root=torch_root,
            compiler=compiler,
            toolkit=toolkit,
        )
        seconds = round(time.perf_counter() - started, 2)
        manifest = {
            "sha256": hashlib.sha256(library.read_bytes()).hexdigest(),
            "compiler": compiler.version,
            "flags": flags.compile_flags(isa),
            "seconds": seconds,
        }
        (aside / _MANIFEST).write_text(json.dumps(manifest, indent=2) + "\n")
        if place.exists():  # it did not pass _read
            shutil.rmtree(place)
        aside.replace(place)
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return Entry(place / _LIBRARY, built=True, compiler=compiler.version, seconds=seconds)


def _read(place: Path) -> Entry | None:
    """The entry at ``place``, or None when it is absent or damaged.

    The digest comes first: loading a truncated library can kill the process with SIGBUS.
    """
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
        digest = hashlib.sha256((place / _LIBRARY).read_bytes()).hexdigest()
        if digest != manifest["sha256"]:
            return None
        compiler, seconds = manifest["compiler"], manifest["seconds"]
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Entry(place / _LIBRARY, built=False, compiler=compiler, seconds=seconds)


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    try:
        import fcntl
    except ImportError:
        raise NativeUnavailable("the C++ kernels are built on Linux and macOS only") from None
    with path.open("w") as file:
        # The system drops this lock when its holder dies: no stale lock can hang the next run.
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _run(command: Sequence[str]) -> None:
    result = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if result.returncode != 0:
        raise NativeUnavailable(
            f"the C++ compiler failed ({result.returncode}):\n$ {shlex.join(command)}\n"
            f"{_tail(result)}"
        )


def _tail(result: subprocess.CompletedProcess[str]) -> str:
    lines = (result.stdout + result.stderr).strip().splitlines()
    return "\n".join(lines[-_TAIL_LINES:])


def _jobs() -> int:
    if wanted := os.environ.get("MAX_JOBS"):
        return max(1, int(wanted))
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _hash(*parts: str) -> str:
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()[:12]
