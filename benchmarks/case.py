"""One row of the grid: which operator, on which shape, in which dtype and precision."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import torch

from benchmarks.errors import InputError

DTYPES = {
    "bfloat16": torch.bfloat16,
    "float16": torch.float16,
    "float32": torch.float32,
    "float64": torch.float64,
    "uint8": torch.uint8,
}
FLOATS = ("bfloat16", "float16", "float32", "float64")
PRECISIONS = ("highest", "high", "medium")
# The order in which reports show them.
KINDS = (
    "uint8",
    "bfloat16",
    "float16",
    *(f"float32 {precision}" for precision in PRECISIONS),
    "float32",
    "float64",
)


@dataclass(frozen=True)
class Case:
    """What is measured. `shape` means what the operator's `shape_names` say, (2N, D) for NT-Xent.

    `precision` is `torch.set_float32_matmul_precision`'s and only matters for float32; it is empty
    where the operator multiplies no matrices.
    A `memory_only` case is not timed: its rows are too large for the dense baselines.
    `data` names the real rows that take the place of random ones; empty for random ones.
    """

    op: str
    shape: tuple[int, ...]
    dtype: str
    precision: str = "highest"
    device: str = "cpu"
    threads: int = 1
    parameters: dict[str, float] = field(default_factory=dict)
    memory_only: bool = False
    data: str = ""

    @property
    def torch_dtype(self) -> torch.dtype:
        """The torch dtype of the inputs."""
        return DTYPES[self.dtype]

    @property
    def key(self) -> tuple[object, ...]:
        """What must agree for two results to be of the same case."""
        parameters = tuple(sorted(self.parameters.items()))
        return (self.op, self.shape, self.kind, self.device, self.threads, parameters, self.data)

    @property
    def kind(self) -> str:
        """The dtype, with the precision where it matters: 'bfloat16', 'float32 high'."""
        told = self.dtype == "float32" and self.precision
        return f"{self.dtype} {self.precision}" if told else self.dtype

    @property
    def shape_text(self) -> str:
        """The shape as the command line spells it: '2048x128'."""
        return "x".join(map(str, self.shape))

    @property
    def title(self) -> str:
        """One line for people: 'nt_xent 2048x128 float32 high'."""
        return " ".join(filter(None, (self.op, self.shape_text, self.kind, self.data)))


def parse_sizes(text: str) -> tuple[int, ...] | None:
    """Read '2048x128' as (2048, 128); None when it is not spelled like that.

    Raises:
        InputError: a size is 0.
    """
    parts = text.lower().split("x")
    if not all(part.isdecimal() for part in parts):
        return None
    sizes = tuple(map(int, parts))
    if min(sizes) < 1:
        raise InputError(f"--shape: every size must be at least 1, got {text!r}")
    return sizes


def check_dtype(name: str) -> str:
    """Return `name` when it is a dtype of the suite, else raise InputError."""
    if name not in DTYPES:
        raise InputError(f"--dtype: got {name!r}, wanted one of {', '.join(DTYPES)}")
    return name


def check_precision(name: str) -> str:
    """Return `name` when it is a float32 matmul precision, else raise InputError."""
    if name not in PRECISIONS:
        raise InputError(f"--precision: got {name!r}, wanted one of {', '.join(PRECISIONS)}")
    return name


def check_device(name: str) -> str:
    """Return `name` when torch can use that device here, else raise InputError."""
    try:
        kind = torch.device(name).type
    except RuntimeError:
        kind = ""
    if kind not in ("cpu", "cuda"):
        raise InputError(f"--device: got {name!r}, wanted cpu or cuda")
    if kind == "cuda" and not torch.cuda.is_available():
        raise InputError(f"--device: {name!r} was asked for, but torch sees no CUDA device here")
    return name


@contextmanager
def torch_state(case: Case) -> Iterator[None]:
    """Set the threads and the float32 precision of `case`; put the old ones back afterwards."""
    threads = torch.get_num_threads()
    precision = torch.get_float32_matmul_precision()
    torch.set_num_threads(case.threads)
    torch.set_float32_matmul_precision(case.precision or precision)
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        torch.set_float32_matmul_precision(precision)


def synchronize(device: str) -> None:
    """Wait for the device to finish; nothing to do on a CPU."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)
