"""The operands of an instruction, and how they are written."""

from __future__ import annotations

import dataclasses
import re
from typing import Any

import numpy as np

from tests.emulation.ptx.errors import Malformed, Unsupported

_ADDRESS = re.compile(r"([%\w$]+)\s*(?:([+-])\s*(-?\w+))?")

Registers = dict[str, np.dtype[Any]]
"""Types by name; %r<> stands for all of that name with a number."""


@dataclasses.dataclass(frozen=True)
class Register:
    name: str
    dtype: np.dtype[Any]


@dataclasses.dataclass(frozen=True)
class Negated:
    """`!%p`, a predicate."""

    register: Register


@dataclasses.dataclass(frozen=True)
class Special:
    """A register of the machine, such as `%tid.x`."""

    name: str


@dataclasses.dataclass(frozen=True)
class Immediate:
    """Bits of a constant; those of an integer are cut to the width that reads them."""

    bits: int


@dataclasses.dataclass(frozen=True)
class Symbol:
    """A label, a parameter or a shared array."""

    name: str


@dataclasses.dataclass(frozen=True)
class Address:
    base: Register | Symbol | Immediate
    offset: int


@dataclasses.dataclass(frozen=True)
class Tuple:
    """`{a, b}`, or `a|b` of two results."""

    parts: tuple[Any, ...]


Operand = Register | Negated | Special | Immediate | Symbol | Address | Tuple


def operand(text: str, registers: Registers) -> Operand:
    if text.startswith("!"):
        register = operand(text[1:], registers)
        if not isinstance(register, Register):
            raise Malformed(f"`{text}` negates no register")
        return Negated(register)
    if text[:1] in "{[":
        inside = text[1:-1].strip()
        if text[0] == "{":
            return Tuple(tuple(operand(part, registers) for part in split(inside)))
        return _address(inside, registers)
    if "|" in text:
        return Tuple(tuple(operand(part.strip(), registers) for part in text.split("|")))
    return _name(text, registers)


def _address(text: str, registers: Registers) -> Address:
    match = _ADDRESS.fullmatch(text)
    base = _name(match[1], registers) if match else None
    if match is None or not isinstance(base, Register | Symbol | Immediate):
        raise Malformed(f"`[{text}]` is no address")
    offset = int(match[3], 0) if match[3] else 0
    return Address(base, -offset if match[2] == "-" else offset)


def _name(text: str, registers: Registers) -> Operand:
    key = re.sub(r"\d+$", "<>", text)
    dtype = registers.get(text) or registers.get(key)
    if dtype is not None:
        return Register(text, dtype)
    if text.startswith("%"):
        return Special(text)
    if re.match(r"0[fFdD][0-9a-fA-F]+$", text):
        return Immediate(int(text[2:], 16))
    if re.match(r"-?\d", text):
        try:
            return Immediate(int(text.rstrip("U"), 0))
        except ValueError:
            raise Unsupported(f"the constant {text}") from None
    return Symbol(text)


def split(text: str) -> list[str]:
    """At commas outside brackets."""
    parts, depth, start = [], 0, 0
    for at, letter in enumerate(text):
        depth += (letter in "{[(") - (letter in ")]}")
        if letter == "," and depth == 0:
            parts.append(text[start:at].strip())
            start = at + 1
    return [*parts, text[start:].strip()] if text.strip() else []
