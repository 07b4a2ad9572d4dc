"""The report of a self-check: the machine, the implementations, the largest errors."""

from __future__ import annotations

import importlib.util
import platform
from collections.abc import Sequence
from pathlib import Path

import torch
from rich.console import Console
from rich.markup import escape
from rich.table import Table

import sslkernels
from sslkernels import backends, native
from sslkernels.selfcheck.cases import CASES, Case
from sslkernels.selfcheck.compare import TOLERANCE, Availability, Result, availability, checks


def run(console: Console, require: Sequence[str] = (), cases: Sequence[Case] = CASES) -> bool:
    """Print the report; True when every check passed and all of `require` is available.

    Args:
        console: where to print.
        require: names of implementations that must be able to run on some device.
        cases: the operators to check.

    Raises:
        ValueError: `require` holds a name that is no implementation.
    """
    if unknown := sorted(set(require) - set(backends.NAMES)):
        raise ValueError(f"require: {unknown[0]!r} is none of {', '.join(backends.NAMES)}")
    available = availability(cases)
    console.print(_environment())
    console.print(_implementations(available, len(cases)))
    precision = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("highest")
    try:
        results = list(checks(cases, available))
    finally:
        torch.set_float32_matmul_precision(precision)
    console.print(_table(results))
    failed = [result for result in results if not result.passed]
    usable = {here.backend for here in available if not here.reason}
    missing = [name for name in require if name not in usable]
    for result in failed:
        if result.problem:
            where = f"{result.op}, {result.backend} on {result.device}, {_short(result.dtype)}"
            console.print(f"{where}: {result.problem}", style="red", markup=False)
    for name in missing:
        console.print(f"{name} is required, and cannot run here", style="red", markup=False)
    if failed:
        console.print(f"{len(failed)} of {len(results)} checks failed", style="bold red")
    else:
        console.print(f"all {len(results)} checks passed", style="bold green")
    return not failed and not missing


def _environment() -> Table:
    table = Table(title="Environment", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # paths stay whole
    library = native.info()
    rows = {
        "sslkernels": sslkernels.__version__,
        "Python": platform.python_version(),
        "PyTorch": torch.__version__,
        "Triton": _triton_version(),
        "CPU": f"{_cpu_name()}, {torch.get_num_threads()} threads",
        "PyTorch's ISA": torch.backends.cpu.get_cpu_capability(),
        "our ISA": library.isa if library else "none loaded",
        "C++ kernels": f"{library.origin}\n{library.path}" if library else "none loaded",
        "GPU": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
    }
    for name, value in rows.items():
        table.add_row(name, escape(value))
    return table


def _implementations(available: Sequence[Availability], count: int) -> Table:
    table = Table(title="Implementations", title_justify="left")
    for column in ("device", "backend", "operators", "available"):
        table.add_column(column)
    # One row for all operators that share a reason; most often that is all of them.
    groups: dict[tuple[str, str, str], list[str]] = {}
    for here in available:
        groups.setdefault((here.device, here.backend, here.reason), []).append(here.op)
    for (device, name, reason), ops in groups.items():
        state = "[yellow]no:[/] " + escape(reason) if reason else "[green]yes[/]"
        operators = "all" if len(ops) == count else ", ".join(ops)
        table.add_row(device, name, operators, state)
    return table


def _table(results: Sequence[Result]) -> Table:
    table = Table(title="Largest error relative to float64", title_justify="left")
    for column in ("operator", "device", "backend"):
        table.add_column(column)
    for dtype in TOLERANCE:
        table.add_column(_short(dtype), justify="right")
    rows: dict[tuple[str, str, str], dict[torch.dtype, str]] = {}
    for result in results:
        style = "green" if result.passed else "bold red"
        row = rows.setdefault((result.op, result.device, result.backend), {})
        row[result.dtype] = f"[{style}]{result.error:.0e}[/]"
    for (op, device, name), errors in sorted(rows.items()):
        table.add_row(op, device, name, *(errors.get(dtype, "-") for dtype in TOLERANCE))
    table.add_section()
    table.add_row("allowed", "", "", *(f"{allowed:.0e}" for allowed in TOLERANCE.values()))
    return table


def _short(dtype: torch.dtype) -> str:
    return str(dtype).removeprefix("torch.")


def _triton_version() -> str:
    if importlib.util.find_spec("triton") is None:
        return "not installed"
    import triton

    return triton.__version__


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())
