"""Floating-point arithmetic. `.ftz` flushes subnormal operands and results to zero.

Approximations (`ex2.approx`, `div.full`, ...) are computed in float64 and rounded: the GPU's own
differ in the last bits.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from fractions import Fraction

import numpy as np

from tests.emulation.ptx.formats import FLOATS, Array, flushed
from tests.emulation.ptx.operations import operation
from tests.emulation.ptx.state import State
from tests.emulation.ptx.text import Instruction

_SINGLE = ("f32",)


def _floats(
    opcode: str,
    function: Callable[..., Array],
    types: Iterable[str],
    modifiers: str,
    wide: bool = True,
) -> None:
    """Registers a function of float64 numbers, whose result is rounded to the type; or, if not
    `wide`, of numbers of the type."""

    @operation(opcode, types=types, modifiers=f"ftz {modifiers}")
    def run(state: State, instruction: Instruction) -> None:
        kind, flush = instruction.modifiers[-1], "ftz" in instruction.modifiers
        target, *sources = instruction.operands
        values = [state.lanes.read(source, kind) for source in sources]
        if flush:
            values = [flushed(value) for value in values]
        dtype = values[0].dtype
        if wide:
            values = [value.astype(np.float64) for value in values]
        result = function(*values).astype(dtype, copy=False)
        state.lanes.write(target, flushed(result) if flush else result)


def multiply_add(a: Array, b: Array, c: Array) -> Array:
    """Rounded once for float32 but for rare ties: its products are exact in float64."""
    return a * b + c


def add_towards_zero(a: Array, b: Array) -> Array:
    """What is rounded away says whether the sum went away from zero; below overflow."""
    total = a + b
    of_b = total - a
    lost = (a - (total - of_b)) + (b - of_b)
    return np.where(lost * np.sign(total) < 0, np.nextafter(total, np.zeros_like(total)), total)


_exact = functools.partial(_floats, wide=False)  # rounded once by NumPy, as by a GPU
_exact("add", np.add, FLOATS, "rn")
_exact("add", add_towards_zero, _SINGLE, "rz")
_exact("sub", np.subtract, FLOATS, "rn")
_exact("mul", np.multiply, FLOATS, "rn")
_exact("copysign", lambda sign, value: np.copysign(value, sign), FLOATS, "")
_exact("neg", np.negative, FLOATS, "")
_exact("abs", np.abs, FLOATS, "")
_exact("min", np.fmin, FLOATS, "")
_exact("max", np.fmax, FLOATS, "")
_exact("div", np.divide, FLOATS, "rn full approx")
_exact("rcp", np.reciprocal, FLOATS, "rn approx")
_exact("sqrt", np.sqrt, FLOATS, "rn approx")
_floats("fma", multiply_add, _SINGLE, "rn")
_floats("rsqrt", lambda x: 1 / np.sqrt(x), FLOATS, "approx")
_floats("ex2", np.exp2, _SINGLE, "approx")
_floats("lg2", np.log2, _SINGLE, "approx")
_floats("sin", np.sin, _SINGLE, "approx")
_floats("cos", np.cos, _SINGLE, "approx")
_floats("tanh", np.tanh, _SINGLE, "approx")


@operation("fma", types=("f64",), modifiers="rn")
def multiply_add_double(state: State, instruction: Instruction) -> None:
    """In Python's fractions, which round nothing before the end."""
    target, *sources = instruction.operands
    values = [state.lanes.read(source, "f64") for source in sources]
    with np.errstate(all="ignore"):
        result = values[0] * values[1] + values[2]
    for i in np.flatnonzero(np.isfinite(result)):
        a, b, c = (Fraction(float(value[i])) for value in values)
        result[i] = float(a * b + c) or result[i]  # which knows the sign of a zero
    state.lanes.write(target, result)


@operation("min", "max", types=_SINGLE, modifiers="ftz NaN")
def propagate_nan(state: State, instruction: Instruction) -> None:
    """`.NaN`: of a number and NaN it is NaN. Without, it is the number."""
    target, *sources = instruction.operands
    function = np.minimum if instruction.opcode == "min" else np.maximum
    a, b = (state.lanes.read(source, "f32") for source in sources)
    if "ftz" in instruction.modifiers:
        a, b = flushed(a), flushed(b)
    state.lanes.write(target, function(a, b))
