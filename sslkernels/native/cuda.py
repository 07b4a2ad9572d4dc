"""Which nvcc compiles the CUDA kernels, and for which GPUs.

Nothing here imports torch, since ``setup.py`` must be able to read it.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from .build import NativeUnavailable

ENVIRONMENT = "SSLKERNELS_CUDA"
ARCHITECTURES = "TORCH_CUDA_ARCH_LIST"

DEFAULT_ARCHITECTURES = ("8.0", "8.6", "8.9", "9.0", "10.0", "12.0+PTX")
"""What is compiled ahead of time: every GPU with the matrix units of sm_80, and PTX for later."""

_ARCHITECTURE = re.compile(r"(\d+)\.(\d)([af]?)(\+PTX)?")


class NoToolkit(NativeUnavailable):
    """There is no nvcc."""


@dataclass(frozen=True)
class Toolkit:
    """nvcc, what it says of itself, where its libraries are, and the GPUs to compile for."""

    nvcc: Path
    version: str
    libraries: Path
    architectures: tuple[str, ...]

    def code_flags(self) -> list[str]:
        """nvcc's flags for ``architectures``."""
        found = []
        for name in self.architectures:
            match = _ARCHITECTURE.fullmatch(name)
            assert match is not None
            major, minor, suffix, ptx = match.groups()
            number = f"{major}{minor}{suffix}"
            found.append(f"-gencode=arch=compute_{number},code=sm_{number}")
            if ptx:
                found.append(f"-gencode=arch=compute_{number},code=compute_{number}")
        return found

    def link_flags(self) -> list[str]:
        """The runtime is linked in: it looks for a driver when it is first called, not before."""
        return [str(self.libraries / "libcudart_static.a"), "-ldl", "-lrt", "-lpthread"]


def architectures(environ: Mapping[str, str], otherwise: Sequence[str]) -> tuple[str, ...]:
    """What TORCH_CUDA_ARCH_LIST asks for, as in "8.0;9.0+PTX", or else ``otherwise``.

    Raises:
        NativeUnavailable: an entry is no number of an architecture.
    """
    names = tuple(re.split(r"[;,\s]+", environ.get(ARCHITECTURES, "").strip())) or ("",)
    if names == ("",):
        return tuple(dict.fromkeys(otherwise))
    for name in names:
        if not _ARCHITECTURE.fullmatch(name):
            raise NativeUnavailable(
                f"{ARCHITECTURES} has {name!r}, expected numbers such as 8.0;9.0+PTX"
            )
    return tuple(dict.fromkeys(names))


def find_toolkit(wanted: Sequence[str]) -> Toolkit:
    """The toolkit of $CUDA_HOME, of $CUDA_PATH, of the nvcc on PATH, or of /usr/local/cuda.

    Args:
        wanted: architectures, as ``architectures()`` returns them.

    Raises:
        NoToolkit: there is none, or its nvcc does not run, or it has no static runtime.
    """
    nvcc = _find_nvcc(os.environ)
    if nvcc is None:
        raise NoToolkit("no nvcc: neither CUDA_HOME nor PATH nor /usr/local/cuda has one")
    # What --dryrun prints knows the place better than the path: nvcc may be a script or a link.
    dry = _output(nvcc, "--dryrun", "-x", "cu", "-c", os.devnull)
    top = re.search(r"^#\$ TOP=(.*)$", dry, re.MULTILINE)
    root = Path(top.group(1)).resolve() if top else nvcc.resolve().parents[1]
    for name in ("lib64", "lib", "targets/x86_64-linux/lib", "targets/sbsa-linux/lib"):
        if (root / name / "libcudart_static.a").is_file():
            version = _output(nvcc, "--version").strip().splitlines()[-1]
            return Toolkit(nvcc, version, root / name, tuple(wanted))
    raise NoToolkit(f"{nvcc} is there, but no libcudart_static.a below {root}")


def toolkit_ahead_of_time(environ: Mapping[str, str], torch_cuda: str | None) -> Toolkit | None:
    """The toolkit for a library that is built at installation, or None where none is wanted.

    Args:
        environ: SSLKERNELS_CUDA=1 asks for one whatever torch says, and 0 for none.
        torch_cuda: ``torch.version.cuda``: None where torch cannot use a GPU anyway.

    Raises:
        NativeUnavailable: SSLKERNELS_CUDA=1 and no toolkit, or what TORCH_CUDA_ARCH_LIST has.
    """
    choice = environ.get(ENVIRONMENT, "")
    if choice == "0" or (choice != "1" and torch_cuda is None):
        return None
    try:
        return find_toolkit(architectures(environ, DEFAULT_ARCHITECTURES))
    except NoToolkit:
        if choice == "1":
            raise
        return None


def _find_nvcc(environ: Mapping[str, str]) -> Path | None:
    homes = [environ.get(name) for name in ("CUDA_HOME", "CUDA_PATH")]
    places = [Path(home) / "bin" / "nvcc" for home in homes if home]
    on_path = shutil.which("nvcc")
    places += [Path(on_path)] if on_path else []
    places.append(Path("/usr/local/cuda/bin/nvcc"))
    return next((place for place in places if place.is_file()), None)


def _output(nvcc: Path, *arguments: str) -> str:
    result = subprocess.run([str(nvcc), *arguments], capture_output=True, text=True, check=False)
    if result.returncode:
        raise NoToolkit(f"`{nvcc} {' '.join(arguments)}` failed:\n{result.stdout}{result.stderr}")
    return result.stdout + result.stderr
