"""Runs a kernel: the grid in chunks of blocks, whose threads step together.

Of the threads that can go on, those at the lowest instruction run until it branches or others join,
so that a warp that came apart meets again as early as it can. A thread at a barrier waits for the
rest of its block.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from tests.emulation.ptx import (  # noqa: F401  (they register their instructions)
    atomics,
    conversions,
    floating,
    integer,
    matrix,
    moves,
    transfers,
    warps,
)
from tests.emulation.ptx.counts import Counts
from tests.emulation.ptx.errors import Divergence, Fault, Malformed, Unsupported
from tests.emulation.ptx.formats import Array
from tests.emulation.ptx.global_memory import GlobalMemory
from tests.emulation.ptx.lanes import WARP, Lanes, Triple
from tests.emulation.ptx.operands import Immediate, Symbol
from tests.emulation.ptx.operations import Run, find
from tests.emulation.ptx.parameters import Argument, Parameters, arrays_of
from tests.emulation.ptx.shared_memory import SharedMemory
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction, Kernel

_BLOCKS_TOGETHER = 32
_ENDS = ("ret", "exit")
_FENCES = ("membar", "fence")


def launch(
    kernel: Kernel,
    grid: Triple,
    arguments: Sequence[Argument],
    *,
    threads: Triple | None = None,
    dynamic_shared: int = 0,
) -> Counts:
    """Run a kernel and return what it moved.

    `arguments` in order of the parameters: a contiguous NumPy array where the kernel wants a
    pointer (its contents are changed), a `Struct` where it wants one, else a number. `threads` of
    a block, a multiple of 32, where the PTX does not say. Raises `Unsupported` before anything runs
    if the kernel has instructions that the emulator lacks, and a `Fault` for what a GPU would not
    forgive.
    """
    threads = kernel.threads or threads
    if threads is None or np.prod(threads) % WARP:
        raise ValueError(f"threads: got {threads}, expected a multiple of {WARP} in all")
    if len(arguments) != len(kernel.parameters):
        raise ValueError(f"arguments: got {len(arguments)}, {kernel.name} has {kernel.parameters}")
    program = _Program(kernel)
    blocks = np.arange(int(np.prod(grid)))
    buffers = GlobalMemory(arrays_of(arguments), program.global_unit, len(blocks))
    parameters = Parameters(kernel.parameters, arguments, buffers)
    counts = Counts()
    size = kernel.static_shared + dynamic_shared
    # No message is ever read, but kernels may ask whether there is one.
    symbols = kernel.shared | parameters.offsets | dict.fromkeys(kernel.texts, 1)
    for start in range(0, len(blocks), _BLOCKS_TOGETHER):
        chunk = blocks[start : start + _BLOCKS_TOGETHER]
        lanes = Lanes(chunk, grid, threads, symbols)
        shared = SharedMemory(len(chunk), size, program.shared_unit, lanes.per_block // WARP)
        with np.errstate(all="ignore"):
            _Chunk(program, State(lanes, shared, buffers, parameters, counts)).run()
    buffers.finish()
    counts.touched_read, counts.touched_written = buffers.touched()
    return counts


class _Program:
    """A kernel whose instructions have been looked up."""

    def __init__(self, kernel: Kernel) -> None:
        self.instructions = kernel.instructions
        self.names = [".".join((x.opcode, *x.modifiers)) for x in kernel.instructions]
        self.targets: dict[int, int] = {}
        self.runs: list[Run | None] = []
        self.leaders = set(kernel.labels.values())  # where threads may join others
        for number, instruction in enumerate(kernel.instructions):
            self.runs.append(None if _is_control(instruction) else find(instruction))
            if instruction.opcode == "bra":
                [label] = instruction.operands
                if not isinstance(label, Symbol) or label.name not in kernel.labels:
                    raise Malformed(f"no such label: {instruction}")
                self.targets[number] = kernel.labels[label.name]
        if not kernel.instructions or not _leaves(kernel.instructions[-1]):
            raise Malformed(f"{kernel.name} does not end in ret")
        self.shared_unit = transfers.least_moved(kernel.instructions, transfers.is_shared)
        self.global_unit = transfers.least_moved(kernel.instructions, transfers.is_global)


def _leaves(instruction: Instruction) -> bool:
    return instruction.guard is None and instruction.opcode in (*_ENDS, "bra")


def _is_control(instruction: Instruction) -> bool:
    """Whether the machine itself runs it."""
    if _is_barrier(instruction):
        if instruction.operands != (Immediate(0),):
            raise Unsupported(f"a barrier of some of the threads: {instruction}")
        return True
    jumps = instruction.opcode == "bra" or instruction.opcode in _ENDS
    return (jumps and instruction.modifiers in ((), ("uni",))) or _orders_only(instruction)


def _is_barrier(instruction: Instruction) -> bool:
    modifiers = set(instruction.modifiers)
    named = instruction.opcode in ("bar", "barrier") and "sync" in modifiers
    return named and modifiers <= {"cta", "sync", "aligned"}


def _orders_only(instruction: Instruction) -> bool:
    """Fences, and barriers of a warp, whose threads step together here."""
    name = (instruction.opcode, *instruction.modifiers)
    return instruction.opcode in _FENCES or name == ("bar", "warp", "sync")


class _Threads(NamedTuple):
    """Those of a mask, whether these are all, and of how many warps some are in it."""

    mask: Array
    full: bool
    warps: int

    @staticmethod
    def of(mask: Array) -> _Threads:
        full = bool(mask.all())
        some = len(mask) // WARP if full else int(mask.reshape(-1, WARP).any(1).sum())
        return _Threads(mask, full, some)


class _Chunk:
    """Some blocks of the grid, from their start to their end."""

    def __init__(self, program: _Program, state: State) -> None:
        self._program, self._state = program, state
        count = state.lanes.count
        self._next = np.zeros(count, np.int64)
        self._live = np.ones(count, np.bool_)
        self._waiting = np.zeros(count, np.bool_)
        self._at = 0

    def run(self) -> None:
        while (able := self._live & ~self._waiting).any():
            start = int(self._next[able].min())
            here = _Threads.of(able & (self._next == start))
            number = start
            try:
                while self._step(number, here):
                    number += 1
                self._release_barriers()
            except (Fault, Unsupported, Malformed) as fault:
                at = self._program.instructions[self._at]
                raise type(fault)(f"{fault}, at {at}") from None

    def _step(self, number: int, here: _Threads) -> bool:
        """Run one instruction; whether these threads go straight on to the next."""
        program, lanes = self._program, self._state.lanes
        self._at = number
        instruction, run = program.instructions[number], program.runs[number]
        taking = here
        if instruction.guard is not None:
            lanes.set_mask(here.mask, here.full)
            taking = _Threads.of(here.mask & lanes.read(instruction.guard, "pred"))
        lanes.set_mask(taking.mask, taking.full)
        self._state.counts.instructions[program.names[number]] += taking.warps
        if run is not None:
            if taking.warps:
                run(self._state, instruction)
        elif not _orders_only(instruction):
            self._next[here.mask] = number + 1
            self._control(instruction, number)
            return False
        joins = number + 1 in program.leaders
        if joins:
            self._next[here.mask] = number + 1
        return not joins

    def _control(self, instruction: Instruction, number: int) -> None:
        taken = self._state.lanes.mask
        if instruction.opcode == "bra":
            self._next[taken] = self._program.targets[number]
        elif instruction.opcode in _ENDS:
            self._live &= ~taken
        else:
            self._waiting |= taken

    def _release_barriers(self) -> None:
        """Blocks whose living threads all wait go on."""
        if not self._waiting.any():
            return
        per_block = self._state.lanes.per_block
        waiting, live = (x.reshape(-1, per_block) for x in (self._waiting, self._live))
        for block in np.nonzero(waiting.any(1) & (waiting == live).all(1))[0]:
            places = np.unique(self._next.reshape(-1, per_block)[block, live[block]])
            if not live[block].all() or len(places) != 1:
                raise Divergence("not all threads of the block come to the barrier")
            waiting[block] = False
            self._state.shared.barrier(int(block))
