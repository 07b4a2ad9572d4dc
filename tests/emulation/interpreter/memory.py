"""Watches every load, store and atomic of an interpreted kernel.

A read or write outside the tensors that were passed, and two programs that meet at one address in
a way whose outcome depends on their order, end the launch with an error. A lane whose mask is off
reads NaN, or the largest integer, where the kernel names no `other`: on a GPU its value is
undefined.
"""

from __future__ import annotations

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from tests.emulation.interpreter.formats import narrow

Builder, Handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
_NOBODY = -1
_SEVERAL = -2


class OutOfBounds(IndexError):
    """An access with an address outside its tensor: no tensor of the launch holds all its lanes."""


class Race(RuntimeError):
    """Programs of one launch depend on their order."""


class Watched:
    """One tensor of a launch: its extent, and which program last touched each element."""

    def __init__(self, name: str, tensor) -> None:
        steps = zip(tensor.shape, tensor.stride(), strict=True)
        elements = 1 + sum((n - 1) * step for n, step in steps) if tensor.numel() else 0
        self.name, self.itemsize = name, tensor.element_size()
        self.start = tensor.data_ptr()
        self.stop = self.start + elements * self.itemsize
        self.reader, self.writer, self.adder = np.full((3, elements), _NOBODY, np.int32)
        self.changed = False
        self._lane = np.empty(elements, np.int32)

    def holds(self, first: int, last: int) -> bool:
        """Whether the elements from one address to another are all in this tensor."""
        return self.start <= first and last + self.itemsize <= self.stop

    def elements(self, addresses):
        """Indices of the elements at those addresses that lie in this tensor, and which do."""
        inside = (addresses >= self.start) & (addresses + self.itemsize <= self.stop)
        return (addresses[inside] - self.start) // self.itemsize, inside

    def ambiguous(self, at, values) -> bool:
        """Whether lanes of one store give different values to one element."""
        lanes = np.arange(at.size)
        self._lane[at] = lanes  # of those that meet, the last
        return bool((values[self._lane[at]] != values)[self._lane[at] != lanes].any())

    def read(self, at, program: int) -> str:
        problem = ""
        if self.changed:
            others = _touched(self.writer[at], program) | _touched(self.adder[at], program)
            problem = "reads what another program writes" if others.any() else ""
        _note(self.reader, at, program)
        return problem

    def write(self, at, program: int) -> str:
        problem = ""
        if _touched(self.writer[at], program).any():
            problem = "writes what another program writes"
        elif _touched(self.reader[at], program).any():
            problem = "writes what another program reads"
        elif _touched(self.adder[at], program).any():
            problem = "stores to what another program updates atomically"
        self.changed = True
        _note(self.writer, at, program)
        return problem

    def add(self, at, program: int) -> str:
        others = _touched(self.writer[at], program) | _touched(self.reader[at], program)
        self.changed = True
        _note(self.adder, at, program)
        return "updates atomically what another program loads or stores" if others.any() else ""


class Memory:
    """The tensors of the launch that runs, and the bytes moved by all launches since `reset`."""

    def __init__(self) -> None:
        self.tensors: list[Watched] = []
        self.reset()

    def reset(self) -> None:
        self.loaded = self.stored = self.updated = 0
        self.launches = 0

    def launch(self, arguments: dict[str, object]) -> None:
        self.launches += 1
        tensors = [(name, x) for name, x in arguments.items() if hasattr(x, "data_ptr")]
        self.tensors = [Watched(name, x) for name, x in tensors]

    def touched(self) -> dict[str, int]:
        """Bytes of each tensor of the last launch that some program touched, each counted once."""
        return {
            x.name: x.itemsize
            * int(((x.reader != _NOBODY) | (x.writer != _NOBODY) | (x.adder != _NOBODY)).sum())
            for x in self.tensors
        }

    def load(self, pointers, mask, itemsize: int) -> None:
        addresses = _active(pointers, mask)
        self.loaded += addresses.size * itemsize
        self._visit(addresses, lambda tensor, at, _, program: tensor.read(at, program), "load")

    def store(self, pointers, mask, itemsize: int, values) -> None:
        addresses = _active(pointers, mask)
        self.stored += addresses.size * itemsize
        values = np.broadcast_to(values, mask.shape)[mask].ravel()

        def write(tensor, at, inside, program):
            if tensor.ambiguous(at, values[inside]):
                return "stores different values to one address"
            return tensor.write(at, program)

        self._visit(addresses, write, "store")

    def update(self, pointers, mask, itemsize: int) -> None:
        addresses = _active(pointers, mask)
        self.updated += addresses.size * itemsize
        self._visit(addresses, lambda tensor, at, _, program: tensor.add(at, program), "atomic")

    def _visit(self, addresses, touch, kind: str) -> None:
        if not addresses.size:
            return
        program, first, last = _program(), int(addresses.min()), int(addresses.max())
        # The lanes of one access have one base: a lane in another tensor has left its own.
        if not any(tensor.holds(first, last) for tensor in self.tensors):
            found = (tensor.elements(addresses)[1] for tensor in self.tensors)
            most = max(found, key=np.count_nonzero)
            raise OutOfBounds(self._describe(addresses[~most], kind, program))
        for tensor in self.tensors:  # one may be a part of another
            if last < tensor.start or first >= tensor.stop:
                continue
            at, inside = tensor.elements(addresses)
            problem = touch(tensor, at, inside, program) if at.size else ""
            if problem:
                raise Race(f"program {program} {problem}, in {tensor.name}")

    def _describe(self, addresses, kind: str, program: int) -> str:
        first = int(addresses[0])
        nearest = min(self.tensors, key=lambda x: min(abs(first - x.start), abs(first - x.stop)))
        return (
            f"{kind} by program {program}: {addresses.size} lanes outside their tensor, the first "
            f"at byte {first - nearest.start} of {nearest.name}, which has "
            f"{nearest.stop - nearest.start}"
        )


MEMORY = Memory()


def install() -> None:
    """Patch the interpreter, for good: it serves a process of its own."""
    load, store = Builder.create_masked_load, Builder.create_masked_store
    update, arguments = Builder.create_atomic_rmw, interpreter.GridExecutor._init_args_hst

    def create_masked_load(self, pointers, mask, other, *options, **named):
        kind = pointers.get_element_ty()
        active = np.broadcast_to(mask.data, pointers.data.shape)
        MEMORY.load(pointers.data, active, interpreter._get_np_dtype(kind).itemsize)
        if other is None and not active.all():
            other = _poison(kind, pointers.data.shape)
        return load(self, pointers, mask, other, *options, **named)

    def create_masked_store(self, pointers, value, mask, *options, **named):
        active = np.broadcast_to(mask.data, pointers.data.shape)
        itemsize = interpreter._get_np_dtype(pointers.get_element_ty()).itemsize
        MEMORY.store(pointers.data, active, itemsize, value.data)
        return store(self, pointers, value, mask, *options, **named)

    def create_atomic_rmw(self, op, pointers, value, mask, *options):
        active = np.broadcast_to(mask.data, pointers.data.shape)
        MEMORY.update(pointers.data, active, value.data.itemsize)
        return update(self, op, pointers, value, mask, *options)

    def init_args(self, positional, named):
        host = arguments(self, positional, named)
        MEMORY.launch(dict(zip(self.arg_names, host[0], strict=False)) | host[1])
        return host

    Builder.create_masked_load = create_masked_load
    Builder.create_masked_store = create_masked_store
    Builder.create_atomic_rmw = create_atomic_rmw
    interpreter.GridExecutor._init_args_hst = init_args


def _program() -> int:
    builder = interpreter.interpreter_builder
    (x, y, z), (_, height, depth) = builder.grid_idx, builder.grid_dim
    return (x * height + y) * depth + z


def _active(pointers, mask):
    if mask.all():
        return np.broadcast_to(pointers, mask.shape).astype(np.int64).ravel()
    return np.broadcast_to(pointers, mask.shape)[mask].astype(np.int64).ravel()


def _touched(last, program: int):
    return (last != _NOBODY) & (last != program)


def _note(last, at, program: int) -> None:
    last[at] = np.where(_touched(last[at], program), _SEVERAL, program)


def _poison(kind, shape) -> Handle:
    if kind == tl.bfloat16:
        return Handle(narrow(np.full(shape, np.nan, np.float32)), kind)
    dtype = interpreter._get_np_dtype(kind)
    value = {"f": np.nan, "b": True}.get(dtype.kind)
    value = np.iinfo(dtype).max if value is None else value
    return Handle(np.full(shape, value, dtype), kind)
