"""The table of instructions: which opcode, of which types and modifiers, is run by what.

A family of instructions registers its functions here. An instruction with any modifier that its
function does not name is unsupported, rather than run as if the modifier were not there.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from tests.emulation.ptx.errors import Unsupported
from tests.emulation.ptx.formats import Array
from tests.emulation.ptx.text import Instruction

if TYPE_CHECKING:
    from tests.emulation.ptx.state import State

Run = Callable[["State", Instruction], None]


@dataclasses.dataclass(frozen=True)
class _Operation:
    run: Run
    types: frozenset[str] | None
    modifiers: frozenset[str]
    one_of: frozenset[str]

    def runs(self, modifiers: tuple[str, ...]) -> bool:
        if self.types is not None:
            if not modifiers or modifiers[-1] not in self.types:
                return False
            modifiers = modifiers[:-1]
        if self.one_of and self.one_of.isdisjoint(modifiers):
            return False
        return (self.modifiers | self.one_of).issuperset(modifiers)


_TABLE: dict[str, list[_Operation]] = {}


def operation(
    *opcodes: str, types: Iterable[str] | None = None, modifiers: str = "", one_of: str = ""
) -> Callable[[Run], Run]:
    """Registers a function for opcodes.

    Their last modifier is one of `types`, if those are given, and the others are among `modifiers`
    and `one_of` (words in any order), with one of `one_of` at least.
    """

    def register(run: Run) -> Run:
        wanted = None if types is None else frozenset(types)
        for opcode in opcodes:
            entry = _Operation(run, wanted, frozenset(modifiers.split()), frozenset(one_of.split()))
            _TABLE.setdefault(opcode, []).append(entry)
        return run

    return register


def computes(
    opcode: str, types: Iterable[str], modifiers: str = ""
) -> Callable[[Callable[..., Array]], Callable[..., Array]]:
    """Registers a function of values: every operand but the first has the instruction's type."""

    def register(function: Callable[..., Array]) -> Callable[..., Array]:
        @operation(opcode, types=types, modifiers=modifiers)
        def run(state: State, instruction: Instruction) -> None:
            kind = instruction.modifiers[-1]
            target, *sources = instruction.operands
            values = (state.lanes.read(source, kind) for source in sources)
            state.lanes.write(target, function(*values))

        return function

    return register


def find(instruction: Instruction) -> Run:
    """What runs the instruction. Raises `Unsupported` with its text and line."""
    run = _run_of(instruction.opcode, instruction.modifiers)
    if run is None:
        raise Unsupported(f"no emulation of {instruction}")
    return run


@functools.cache
def _run_of(opcode: str, modifiers: tuple[str, ...]) -> Run | None:
    entries = (entry for entry in _TABLE.get(opcode, ()) if entry.runs(modifiers))
    return next((entry.run for entry in entries), None)
