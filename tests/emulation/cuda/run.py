"""Runs kernels of a library from `build.py`, and says where in the source something is wrong."""

from __future__ import annotations

import ctypes
import dataclasses
import functools
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tests.emulation.cuda import build

SCHEDULES = ("forward", "reversed", "random")
"""The order of blocks, of warps, and of lanes between two barriers."""

MODE = "checked"
"""How libraries are built that do not say it."""


class Fault(Exception):
    """What ended a kernel: its kind, a sentence, and the file and line in the kernel's source.

    Kinds: OutOfBounds, ReadOnly, Misaligned, Unwritten, Race, PendingCopy, Divergence,
    Assertion.
    """

    def __init__(self, kind: str, detail: str, file: str, line: int) -> None:
        super().__init__(f"{kind}: {detail} ({file}:{line})")
        self.kind, self.file, self.line = kind, file, line


@dataclasses.dataclass(frozen=True)
class Counted:
    """An instruction's accesses: 32-byte sectors of global memory or wavefronts of shared memory
    in `moved`, and how few of them would do."""

    file: str
    line: int
    shared: bool
    writes: bool
    requests: int
    bytes: int
    moved: int
    fewest: int


class Library:
    """Kernels compiled from .cu files; `mode` is "checked" or "sanitized", by default `MODE`."""

    def __init__(self, *sources: Path, mode: str | None = None) -> None:
        self.path = build.build(sources, mode or MODE)
        self._library = ctypes.CDLL(str(self.path))
        for name in ("emulated_finding", "emulated_counts"):
            getattr(self._library, name).restype = ctypes.c_char_p

    def run(
        self,
        function: str,
        *arguments: Any,
        schedule: str = "forward",
        buffers: Mapping[str, np.ndarray] | None = None,
    ) -> list[Counted]:
        """Call a C function that launches kernels and returns a cudaError_t.

        An array goes as its pointer, and is memory that the kernel may use, for reading alone where
        it is not writeable; an integer as int64, a float as double; anything of ctypes as it is.
        `buffers` are further memory, to which a struct among the arguments points.

        Raises:
            Fault: the kernel did what a GPU would not forgive.
            RuntimeError: the function returned an error of its own.
        """
        self._library.emulated_begin(SCHEDULES.index(schedule))
        arrays = dict(buffers or {})
        values = []
        for position, argument in enumerate(arguments):
            if isinstance(argument, np.ndarray):
                arrays[f"argument {position}"] = argument
            values.append(_as_c(argument))
        for name, array in arrays.items():
            self._library.emulated_add_buffer(
                name.encode(), _pointer(array), _span(array), int(not array.flags.writeable)
            )
        code = getattr(self._library, function)(*values)
        self._raise_fault()
        if code:
            raise RuntimeError(f"{function} returned CUDA error {code}")
        return self._counts()

    def number(self, function: str, *arguments: Any) -> int:
        """What a function that launches nothing says, an int64."""
        called = getattr(self._library, function)
        called.restype = ctypes.c_int64
        return called(*(_as_c(x) for x in arguments))

    def _raise_fault(self) -> None:
        finding = self._library.emulated_finding().decode()
        if finding:
            kind, offset, block, detail = finding.split("\n", 3)
            file, line = self._place(int(offset))
            raise Fault(kind, f"{detail} block {block}", file, line)

    def _counts(self) -> list[Counted]:
        found = []
        for row in self._library.emulated_counts().decode().splitlines():
            offset, shared, writes, *numbers = (int(x) for x in row.split())
            found.append(Counted(*self._place(offset), bool(shared), bool(writes), *numbers))
        return found

    def _place(self, offset: int) -> tuple[str, int]:
        return _source_place(self.path, offset)


@functools.cache
def _source_place(library: Path, offset: int) -> tuple[str, int]:
    """The innermost line of the kernel's own code, not of the emulator's or the compiler's."""
    command = ["addr2line", "-i", "-e", str(library), hex(offset)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    places = [line.split(" ")[0].rpartition(":") for line in result.stdout.splitlines()]
    # The library may have been compiled in another checkout.
    emulator = "/emulation/cuda/include/"
    own = [x for x in places if emulator not in x[0] and not x[0].startswith("/usr/")]
    file, _, line = (own or places)[0]
    return Path(file).name, int(line) if line.isdigit() else 0


def aligned(array: np.ndarray, read_only: bool = True) -> np.ndarray:
    """A copy that begins where allocations on a GPU do, at a multiple of 256 bytes."""
    memory = np.empty(array.nbytes + 256, np.uint8)
    start = -memory.ctypes.data % 256
    copy = memory[start : start + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    copy.flags.writeable = not read_only
    return copy


def _as_c(argument: Any) -> Any:
    if isinstance(argument, np.ndarray):
        return _pointer(argument)
    if isinstance(argument, float):
        return ctypes.c_double(argument)
    if isinstance(argument, (int, np.integer)):
        return ctypes.c_int64(int(argument))
    return argument


def _pointer(array: np.ndarray) -> ctypes.c_void_p:
    return ctypes.c_void_p(array.ctypes.data)


def _span(array: np.ndarray) -> ctypes.c_size_t:
    """Bytes from the first element to the end of the last."""
    steps = zip(array.shape, array.strides, strict=True)
    last = sum((n - 1) * step for n, step in steps) if array.size else -array.itemsize
    return ctypes.c_size_t(last + array.itemsize)
