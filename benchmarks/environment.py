"""Where the figures come from: hardware, software and state of the checkout, without names."""

from __future__ import annotations

import importlib.metadata
import os
import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
ISA_FLAGS = (
    "avx2",
    "fma",
    "avx512f",
    "avx512bw",
    "avx512_bf16",
    "avx512_fp16",
    "amx_tile",
    "amx_bf16",
    "amx_fp16",
    "asimd",
    "sve",
    "bf16",
)
PACKAGES = (
    "torch",
    "numpy",
    "triton",
    "lightly",
    "pytorch-metric-learning",
    "open_clip_torch",
    "sentence-transformers",
    "cut-cross-entropy",
    "liger-kernel",
    "torchvision",
    "kornia",
    "albumentations",
    "opencv-python-headless",
)
# Settings that change which kernels run or how many threads they get.
VARIABLES = (
    "SSLKERNELS_CPU_ISA",
    "ATEN_CPU_CAPABILITY",
    "ONEDNN_MAX_CPU_ISA",
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "KMP_AFFINITY",
    "LD_PRELOAD",
)


@dataclass(frozen=True)
class Environment:
    """Everything a reader needs to judge the figures; no host name, no path."""

    cpu: str
    cores: int
    flags: list[str]
    torch_capability: str
    sslkernels_isa: str
    gpu: str | None
    threads: int
    system: str
    python: str
    packages: dict[str, str]
    variables: dict[str, str]
    commit: str | None
    dirty: bool | None
    started: str
    finished: str | None
    load_before: float | None
    load_after: float | None


def collect(threads: int) -> Environment:
    """The state at the start of a run."""
    cpu, flags = _cpu()
    commit = _git("rev-parse", "--short=12", "HEAD")
    changes = _git("status", "--porcelain")
    return Environment(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        flags=flags,
        torch_capability=torch.backends.cpu.get_cpu_capability(),
        sslkernels_isa=_sslkernels_isa(),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        threads=threads,
        system=f"{platform.system()} {platform.machine()}",
        python=platform.python_version(),
        packages=_versions(),
        variables={name: os.environ[name] for name in VARIABLES if name in os.environ},
        commit=commit,
        dirty=None if changes is None else bool(changes),
        started=now(),
        finished=None,
        load_before=load(),
        load_after=None,
    )


def now() -> str:
    """The current time in UTC, to the second."""
    return datetime.now(timezone.utc).strftime("%Y-%m-%d %H:%M:%S UTC")


def load() -> float | None:
    """The one-minute load average; None where the system has none."""
    try:
        return round(os.getloadavg()[0], 2)
    except (AttributeError, OSError):
        return None


def _cpu() -> tuple[str, list[str]]:
    """Model name and the instruction sets that matter here."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine(), []
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    present = set(fields.get("flags", fields.get("Features", "")).split())
    model = fields.get("model name") or platform.processor() or platform.machine()
    return model, [flag for flag in ISA_FLAGS if flag in present]


def _versions() -> dict[str, str]:
    found = {}
    for name in PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def _git(*arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, text=True)
    except OSError:
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def _sslkernels_isa() -> str:
    """The instruction set of the C++ kernels in use, or that there are none."""
    from sslkernels import native

    try:
        return native.load().isa
    except native.NativeUnavailable:
        return "none: the C++ kernels did not build or load"
