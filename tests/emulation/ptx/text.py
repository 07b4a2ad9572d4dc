"""Reads PTX: kernels with their parameters, shared memory, labels and instructions.

Registers keep the width that they were declared with. Scopes inside a body are flattened, so one
name may be declared twice only with one type.
"""

from __future__ import annotations

import bisect
import dataclasses
import functools
import re
from typing import Any

import numpy as np

from tests.emulation.ptx.errors import Malformed, Unsupported
from tests.emulation.ptx.formats import DTYPES
from tests.emulation.ptx.operands import (
    Negated,
    Operand,
    Register,
    Registers,
    operand,
    split,
)


@dataclasses.dataclass(frozen=True)
class Instruction:
    """`line` counts from 1 in the PTX; `source` is the file and line that `.loc` names, or ""."""

    opcode: str
    modifiers: tuple[str, ...]
    operands: tuple[Operand, ...]
    guard: Register | Negated | None
    text: str
    line: int
    source: str

    def __str__(self) -> str:
        where = f"line {self.line}" + (f", {self.source}" if self.source else "")
        return f"`{self.text}` ({where})"


@dataclasses.dataclass(frozen=True)
class Kernel:
    """`parameters` are types by name, b8[12] for a struct of 12 bytes; `shared` is where each array
    begins; `threads` of a block, None where the PTX is silent; `texts` are names of messages."""

    name: str
    parameters: dict[str, str]
    instructions: tuple[Instruction, ...]
    labels: dict[str, int]
    shared: dict[str, int]
    static_shared: int
    threads: tuple[int, int, int] | None
    texts: tuple[str, ...] = ()


_COMMENT = re.compile(r"//[^\n]*|/\*.*?\*/", re.DOTALL)
_ENTRY = re.compile(r"\.entry\s+([\w$]+)\s*(?:\((.*?)\))?([^{;]*)\{", re.DOTALL)
_PARAMETER = re.compile(
    r"\.param\s+(?:\.align\s+\d+\s+)?\.(\w+)(?:\s+\.ptr[^,]*?)?\s+([\w$]+)\s*(\[\d+\])?\s*$"
)
_THREADS = re.compile(r"\.(?:reqntid|maxntid)\s+(\d+)(?:\s*,\s*(\d+))?(?:\s*,\s*(\d+))?")
_SHARED = re.compile(
    r"\.shared\s+(?:\.align\s+(\d+)\s+)?\.([busf]\d+)\s+([\w$]+)\s*(?:\[\s*(\d*)\s*\])?\s*;"
)
_FILE = re.compile(r'\.file\s+(\d+)\s+"([^"]*)"')
_LOCATION = re.compile(r"\.loc\s+(\d+)\s+(\d+)[^\n]*")
_LABEL = re.compile(r"([\w$]+)\s*:(?!:)")
_REGISTERS = re.compile(r"\.reg\s+\.(\w+)\s+(.*)", re.DOTALL)
_CALL = re.compile(r"call\.uni\s+(\w+)\s*,")
_TEXT = re.compile(r"\.global\s+(?:\.align\s+\d+\s+)?\.b8\s+([\w$]+)\s*\[")
_GUARD = re.compile(r"@\s*(!?)\s*([%\w$]+)\s+")


def kernels(ptx: str) -> dict[str, Kernel]:
    """Every kernel of a module by its name.

    Raises `Malformed` for text that is no PTX, with its line.
    """
    code = _COMMENT.sub(lambda m: re.sub(r"[^\n]", " ", m.group()), ptx)
    files = {number: path.rsplit("/", 1)[-1] for number, path in _FILE.findall(code)}
    shared, size = _shared_arrays(code)
    found = {}
    for match in _ENTRY.finditer(code):
        name, parameters, directives = match.groups()
        threads = _THREADS.search(directives)
        body = _Body(code, files)
        body.read(match.end())
        found[name] = Kernel(
            name,
            _parameters(parameters or ""),
            tuple(body.instructions),
            body.labels,
            shared,
            size,
            tuple(int(x or 1) for x in threads.groups()) if threads else None,  # pyright: ignore
            tuple(_TEXT.findall(code)),
        )
    if not found:
        raise Malformed("the text has no .entry")
    return found


def _parameters(text: str) -> dict[str, str]:
    found = {}
    for part in filter(None, map(str.strip, text.split(","))):
        match = _PARAMETER.match(part)
        if match is None:
            raise Unsupported(f"the parameter `{part}`")
        found[match[2]] = match[1] + (match[3] or "")
    return found


def _shared_arrays(code: str) -> tuple[dict[str, int], int]:
    """Arrays of known size in order, then the one whose size the launch gives."""
    offsets, size, dynamic = {}, 0, []
    for align, kind, name, length in _SHARED.findall(code):
        if length == "" and re.search(rf"\.extern[^;]*\s{re.escape(name)}\s*\[", code):
            dynamic.append(name)
            continue
        size = _rounded(size, int(align or 1))
        offsets[name] = size
        size += DTYPES[kind].itemsize * int(length or 1)
    size = _rounded(size, 16) if dynamic else size
    return offsets | dict.fromkeys(dynamic, size), size


def _rounded(size: int, align: int) -> int:
    return -(-size // align) * align


class _Body:
    """Reads statements from one `{` to its `}`."""

    def __init__(self, code: str, files: dict[str, str]) -> None:
        self._code, self._files = code, files
        self._lines = [m.start() for m in re.finditer("\n", code)]
        self._registers: Registers = {}
        self._declared = frozenset(self._registers.items())
        self._source = ""
        self.instructions: list[Instruction] = []
        self.labels: dict[str, int] = {}

    def read(self, at: int) -> None:
        depth = 1
        while depth:
            while self._code[at : at + 1].isspace():
                at += 1
            if at >= len(self._code):
                raise Malformed("the text ends inside a kernel")
            if self._code[at] in "{}":
                depth += 1 if self._code[at] == "{" else -1
                at += 1
            elif match := _LOCATION.match(self._code, at):
                self._source = f"{self._files.get(match[1], match[1])}:{match[2]}"
                at = match.end()
            elif match := _LABEL.match(self._code, at):
                self.labels[match[1]] = len(self.instructions)
                at = match.end()
            else:
                end = self._code.find(";", at)
                if end < 0:
                    raise Malformed(f"line {self._line(at)} has no `;`")
                self._statement(" ".join(self._code[at:end].split()), self._line(at))
                at = end + 1

    def _line(self, at: int) -> int:
        return bisect.bisect_left(self._lines, at) + 1

    def _statement(self, text: str, line: int) -> None:
        if match := _REGISTERS.match(text):
            self._declare(match[1], match[2], line)
            return
        if not text or text.startswith((".pragma", ".shared", ".local", ".param", "st.param")):
            return  # .param: what a call is given
        if text.startswith("."):
            raise Unsupported(f"`{text}` (line {line})")
        if match := _CALL.match(text):
            text = f"call.uni.{match[1]}"
        try:
            guard, name, operands = _decoded(text, self._declared)
        except (Malformed, Unsupported) as error:
            raise type(error)(f"{error} (line {line})") from None
        opcode, *modifiers = name.split(".")
        self.instructions.append(
            Instruction(opcode, tuple(modifiers), operands, guard, text, line, self._source)
        )

    def _declare(self, kind: str, names: str, line: int) -> None:
        if kind not in DTYPES:
            raise Unsupported(f"registers of type .{kind} (line {line})")
        for name in map(str.strip, names.split(",")):
            key = re.sub(r"<\d+>$", "<>", name)
            if self._registers.setdefault(key, DTYPES[kind]).itemsize != DTYPES[kind].itemsize:
                raise Unsupported(f"{name} has two types (line {line})")
        self._declared = frozenset(self._registers.items())


@functools.lru_cache(maxsize=1 << 15)
def _decoded(
    text: str, declared: frozenset[tuple[str, np.dtype[Any]]]
) -> tuple[Register | Negated | None, str, tuple[Operand, ...]]:
    """Guard, name and operands. Remembered: a defect is sought in code that was read before."""
    registers, guard, code = dict(declared), None, text
    if match := _GUARD.match(text):
        guard = operand(match[1] + match[2], registers)
        code = text[match.end() :]
    name, _, rest = code.partition(" ")
    assert guard is None or isinstance(guard, Register | Negated)
    return guard, name, tuple(operand(part, registers) for part in split(rest))
