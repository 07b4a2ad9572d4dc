"""Compiles .cu files with g++ into a library whose kernels run on the CPU."""

from __future__ import annotations

import hashlib
import os
import platform
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import torch

from sslkernels.native import flags

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CSRC = ROOT / "csrc"
TORCH = Path(torch.__file__).parent

_COMMON = ("-std=c++20", "-gdwarf-4", "-fPIC", "-fno-gnu-unique", "-march=x86-64-v2", "-Wall")
_WARNINGS = ("-Wno-unknown-pragmas", "-Wno-misleading-indentation", "-Wno-unused-function")
# Scalars in place of structs would hide that 16 bytes were read at once.
_WHOLE_ACCESSES = ("-O1", "-fno-tree-sra", "-fno-ipa-sra", "-ffp-contract=off")
_KERNEL = {
    "checked": (
        *_WHOLE_ACCESSES,
        "-fsanitize=thread",
        "--param=tsan-instrument-func-entry-exit=0",
    ),
    "sanitized": ("-O1", "-ffp-contract=off", "-fsanitize=address,undefined"),
    "plain": ("-O1", "-ffp-contract=off"),
}
_RUNTIME = {
    "checked": ("-O2", "-DEMULATED_DETECTOR"),
    "sanitized": ("-O1", "-fsanitize=address"),
    "plain": ("-O2",),
}
_LINK = {
    "checked": (),
    "sanitized": ("-fsanitize=address,undefined",),
    "plain": (),
}
_CHECKED_SOURCES = ("detector.cpp", "races.cpp", "counters.cpp")
_SOURCES = ("fibers.cpp", "machine.cpp", "copies.cpp", "interface.cpp")

MODES = tuple(_KERNEL)


def why_not() -> str:
    """Why kernels cannot be emulated on this machine, or an empty string if they can."""
    if platform.machine().lower() not in ("x86_64", "amd64") or platform.system() != "Linux":
        return "fibers are written for x86-64 Linux"
    try:
        subprocess.run(["g++", "--version"], capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return "there is no g++"
    return ""


def build(sources: Sequence[Path], mode: str, callers: Sequence[Path] = ()) -> Path:
    """The library of some .cu files, in `mode` "checked", "sanitized" or "plain"; kept in a cache.

    `callers` are .cpp files that include torch's headers, as those that ship are compiled.

    Raises RuntimeError with the compiler's output when it fails.
    """
    runtime = [HERE / "runtime" / name for name in _runtime_sources(mode)]
    options = [*_COMMON, *_WARNINGS, "-D__CUDACC__=1", "-DEMULATED_CUDA=1"]
    options += [f"-I{HERE / 'include'}", f"-I{CSRC}", "-include", "cuda_runtime.h"]
    kernel = [*options, *_KERNEL[mode], "-fno-sanitize-recover=all", "-x", "c++"]
    support = [*_COMMON, *_RUNTIME[mode]]
    caller = [
        *flags.compile_flags(flags.CUDA_HOST),
        f"-I{CSRC}",
        "-isystem",
        str(TORCH / "include"),
    ]
    parts = [*sources, *callers, *_headers(CSRC), *sorted((HERE / "runtime").iterdir())]
    key = digest_of(parts, repr((sources, kernel, callers and (caller, torch.__version__))))
    place = cache() / f"{sources[0].stem}-{mode}-{key}.so"
    if place.is_file():
        return place
    shared = _objects(runtime, support, mode)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        objects = []
        for number, source in enumerate((*sources, *callers)):
            objects.append(f"{scratch}/{number}.o")
            chosen = kernel if source in sources else caller
            _run("g++", *chosen, "-c", str(source), "-o", objects[-1])
        linked = Path(scratch) / place.name
        _run(
            "g++",
            "-shared",
            "-Wl,-Bsymbolic",
            *_LINK[mode],
            *objects,
            *shared,
            *(flags.link_flags(TORCH) if callers else ()),
            "-ldl",
            "-o",
            str(linked),
        )
        linked.replace(place)
    return place


def _runtime_sources(mode: str) -> tuple[str, ...]:
    return (*_SOURCES, *(_CHECKED_SOURCES if mode == "checked" else ("unchecked.cpp",)))


def _objects(sources: Sequence[Path], options: Sequence[str], mode: str) -> list[str]:
    """The runtime, compiled once for all kernels."""
    key = digest_of([*sources, *(HERE / "runtime").glob("*.h"), *_headers(HERE)], repr(options))
    folder = cache() / f"runtime-{mode}-{key}"
    objects = [folder / f"{source.stem}.o" for source in sources]
    if not folder.is_dir():
        with tempfile.TemporaryDirectory(dir=folder.parent) as scratch:
            made = Path(scratch) / folder.name
            made.mkdir()
            for source in sources:
                _run("g++", *options, "-c", str(source), "-o", str(made / f"{source.stem}.o"))
            if not folder.is_dir():
                made.rename(folder)
    return [str(path) for path in objects]


def _headers(include: Path) -> list[Path]:
    folders = (include, HERE / "include")
    return sorted(path for folder in folders for path in folder.rglob("*.h"))


def digest_of(files: Sequence[Path], options: str) -> str:
    digest = hashlib.sha256(options.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache() -> Path:
    extensions = os.environ.get("TORCH_EXTENSIONS_DIR")
    base = Path(extensions) if extensions else Path(tempfile.gettempdir()) / "sslkernels-tests"
    folder = base / "emulated-cuda"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(*command: str) -> None:
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"$ {' '.join(command)}\n{result.stderr}")


def sanitized_environment() -> dict[str, str]:
    """Variables of a process that may load "sanitized" libraries."""
    libraries = [_path_of(name) for name in ("libasan.so", "libstdc++.so")]
    return {
        "LD_PRELOAD": " ".join(libraries),
        "ASAN_OPTIONS": "detect_leaks=0",  # the interpreter keeps what it allocates
    }


def _path_of(library: str) -> str:
    command = ["g++", f"-print-file-name={library}"]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
