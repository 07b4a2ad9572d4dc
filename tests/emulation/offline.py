"""Compiles Triton kernels for GPUs that are not there, and reads what the compilers made of them.

A launch is recorded instead of run: the operators' own Python chooses configurations and arguments,
Triton specialises on them as it would on the GPU, and its compiler and the vendor's assembler do
their whole work. That needs a process of its own, since Triton's driver is one for all; `compile`
starts it. Triton keeps compiled kernels in its cache, and what was read from them is kept beside.
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

TARGETS = {
    "sm_80": ("cuda", 80, 32),
    "sm_90": ("cuda", 90, 32),
    "sm_100": ("cuda", 100, 32),
    "gfx90a": ("hip", "gfx90a", 64),
    "gfx942": ("hip", "gfx942", 64),
}
_MATRIX = re.compile(r"^(HMMA|HGMMA|UTC\w*MMA|v_mfma|DMMA|IMMA)")
_SASS = re.compile(r"\t(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_.]*)")
_GCN = re.compile(r"^\s+((?:v|s|ds|buffer|global|scratch|flat)_\w+)", re.MULTILINE)


@dataclasses.dataclass(frozen=True)
class Resources:
    """What one compiled kernel uses.

    `stack` and `spills` are bytes of local memory per thread and instructions that touch it;
    `shared` bytes per program; `matrix` the matrix instructions by kind.
    """

    kernel: str
    target: str
    registers: int
    stack: int
    spills: int
    shared: int
    warps: int
    stages: int
    matrix: dict[str, int]

    def table_row(self) -> dict[str, Any]:
        row = dataclasses.asdict(self)
        del row["kernel"], row["target"]
        return row


@contextlib.contextmanager
def compiled_launches(
    target: str, each: Callable[[Any, Any, tuple[int, ...], dict[str, Any]], object]
) -> Iterator[None]:
    """Inside, kernel launches are compiled for `target` and given to `each`; nothing runs.

    `each` receives the compiled kernel, its function, the grid and the arguments by name.
    """
    from triton.backends.compiler import GPUTarget
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    run = JITFunction.run

    def compile_only(self: Any, *args: Any, grid: Any, warmup: bool, **options: Any) -> Any:
        kernel = run(self, *args, grid=grid, warmup=True, **options)
        arguments = dict(zip(self.arg_names, args, strict=False)) | options
        blocks: Any = grid(arguments) if callable(grid) else grid
        each(kernel, self, blocks, arguments)
        return kernel

    driver.set_active(_offline_driver(GPUTarget(*TARGETS[target])))
    JITFunction.run = compile_only
    try:
        yield
    finally:
        JITFunction.run = run


@contextlib.contextmanager
def recorded(target: str) -> Iterator[list[Resources]]:
    """Inside, kernel launches are compiled for `target` and appended to the list; nothing runs.

    Tensors that a kernel would have written keep what they hold.
    """
    found: list[Resources] = []

    def read(kernel: Any, function: Any, grid: object, arguments: object) -> None:
        found.append(_read(kernel, function.__name__, target))

    with compiled_launches(target, read):
        yield found


def compiled(function: Callable[[], object], target: str) -> list[Resources]:
    """The kernels that `function` launches, each configuration once."""
    with recorded(target) as found:
        function()
    return list({repr(x): x for x in found}.values())


def _offline_driver(target: Any) -> Any:
    from triton.backends.driver import DriverBase

    class OfflineDriver(DriverBase):
        """What Triton asks of a driver until a kernel is launched."""

        def __init__(self) -> None:
            pass

        @classmethod
        def is_active(cls) -> bool:
            return False

        def map_python_to_cpp_type(self, ty: str) -> str:
            return ty

        def get_current_target(self) -> Any:
            return target

        def get_active_torch_device(self) -> Any:
            import torch

            return torch.device("cpu")

        def get_benchmarker(self) -> Any:
            raise RuntimeError("there is no GPU to measure on")

        def get_current_device(self) -> int:
            """One for each target: Triton keeps what it compiled by device, not by target."""
            return [arch for _, arch, _ in TARGETS.values()].index(target.arch)

        def set_current_device(self, device: int) -> None:
            pass

        def get_current_stream(self, device: int) -> int:
            return 0

    return OfflineDriver()


def _read(kernel: Any, name: str, target: str) -> Resources:
    binary = kernel.asm["cubin" if target.startswith("sm_") else "hsaco"]
    reader = Path(__file__).read_bytes()
    cache = _cache_folder() / f"{hashlib.sha256(binary + reader).hexdigest()}.json"
    if cache.exists():
        usage = json.loads(cache.read_text())
    else:
        usage = _cuda_usage(kernel) if target.startswith("sm_") else _amd_usage(kernel)
        cache.write_text(json.dumps(usage))
    metadata = kernel.metadata
    return Resources(
        kernel=name,
        target=target,
        shared=metadata.shared,
        warps=metadata.num_warps,
        stages=metadata.num_stages,
        **usage,
    )


def _cache_folder() -> Path:
    from triton import knobs

    folder = Path(knobs.cache.dir) / "resources"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _cuda_usage(kernel: Any) -> dict[str, Any]:
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(kernel.asm["cubin"])
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "-res-usage", file.name]
        report = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    usage = dict(re.findall(r"(REG|STACK):(\d+)", report))
    instructions = Counter(_SASS.findall(kernel.asm["sass"]))
    spills = sum(n for op, n in instructions.items() if op.startswith(("LDL", "STL")))
    return {
        "registers": int(usage["REG"]),
        "stack": int(usage["STACK"]),
        "spills": spills,
        "matrix": _matrix(instructions),
    }


def _amd_usage(kernel: Any) -> dict[str, Any]:
    text = kernel.asm["amdgcn"]
    numbers = {name: int(n) for name, n in re.findall(r"\.(\w+):\s+(\d+)\s*$", text, re.MULTILINE)}
    return {
        "registers": numbers["vgpr_count"],  # of both kinds: they share a file
        "stack": numbers["private_segment_fixed_size"],
        "spills": numbers["vgpr_spill_count"],  # a scalar register spills to a vector one
        "matrix": _matrix(Counter(_GCN.findall(text))),
    }


def _matrix(instructions: Counter[str]) -> dict[str, int]:
    kinds: Counter[str] = Counter()
    for op, n in instructions.items():
        if _MATRIX.match(op):
            kinds[op.split(".")[0]] += n
    return dict(sorted(kinds.items()))
