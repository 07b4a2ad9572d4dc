"""Compiles .cu files with g++ into a library whose kernels run on the CPU."""

from __future__ import annotations

import functools
import hashlib
import os
import platform
import re
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
        _compiler()
    except (OSError, RuntimeError):
        return "there is no g++"
    return ""


def build(sources: Sequence[Path], mode: str, callers: Sequence[Path] = ()) -> Path:
    """The library of some .cu files, in `mode` "checked", "sanitized" or "plain"; kept in a cache.

    `callers` are .cpp files that include torch's headers, as those that ship are compiled. A
    library is found again by what the compiler sees, wherever the sources lie.

    Raises RuntimeError with the compiler's output when it fails.
    """
    runtime = [HERE / "runtime" / name for name in _runtime_sources(mode)]
    kernel = [*_COMMON, *_WARNINGS, *_KERNEL[mode], "-fno-sanitize-recover=all", "-x", "c++"]
    kernel += ["-D__CUDACC__=1", "-DEMULATED_CUDA=1", "-include", "cuda_runtime.h"]
    caller = flags.compile_flags(flags.CUDA_HOST)
    options = repr((_compiler(), kernel, _LINK, callers and (caller, str(TORCH))))
    kernel += [f"-I{HERE / 'include'}", f"-I{CSRC}"]
    caller = [*caller, f"-I{CSRC}", "-isystem", str(TORCH / "include")]
    compiled = [(x, kernel) for x in sources] + [(x, caller) for x in callers]
    support = [*_COMMON, *_RUNTIME[mode]]
    seen = "".join(_preprocessed(*each) for each in compiled)
    key = digest_of(sorted((HERE / "runtime").iterdir()), options + seen)
    place = cache() / f"{sources[0].stem}-{mode}-{key}.so"
    if place.is_file():
        place.touch()
        return place
    shared = _objects(runtime, support, mode)
    with tempfile.TemporaryDirectory(dir=place.parent) as scratch:
        objects = []
        for number, (source, chosen) in enumerate(compiled):
            objects.append(f"{scratch}/{number}.o")
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
    headers = sorted(x for name in ("runtime", "include") for x in (HERE / name).rglob("*.h"))
    key = digest_of([*sources, *headers], repr((_compiler(), options)))
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


@functools.cache
def _compiler() -> str:
    return _run("g++", "--version")


_FOLDER = re.compile(r'^(# \d+ ").*/', re.MULTILINE)


def _preprocessed(source: Path, options: Sequence[str]) -> str:
    """What the compiler sees, without the folders that it comes from."""
    return _FOLDER.sub(r"\1", _run("g++", *options, "-E", "-fdirectives-only", str(source)))


def digest_of(files: Sequence[Path], options: str) -> str:
    digest = hashlib.sha256(options.encode())
    for path in files:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def cache() -> Path:
    """SSLKERNELS_EMULATION_CACHE, or where libraries are otherwise built."""
    chosen, extensions = (
        os.environ.get(name) for name in ("SSLKERNELS_EMULATION_CACHE", "TORCH_EXTENSIONS_DIR")
    )
    base = Path(extensions) if extensions else Path(tempfile.gettempdir()) / "sslkernels-tests"
    folder = Path(chosen) if chosen else base / "emulated-cuda"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _run(*command: str) -> str:
    """What it prints."""
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    if result.returncode:
        raise RuntimeError(f"$ {' '.join(command)}\n{result.stderr}")
    return result.stdout


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
