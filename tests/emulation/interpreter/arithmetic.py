"""Repairs the arithmetic of Triton's interpreter.

Upstream computes on the bit patterns of bfloat16 as if they were integers, rounds to bfloat16 half
up, and takes every float32 product as an exact one whatever `input_precision` says.
"""

from __future__ import annotations

import dataclasses

import numpy as np
import triton.language as tl
from triton.runtime import interpreter

from tests.emulation.interpreter.formats import narrow, split_product, widen

Builder, Handle = interpreter.InterpreterBuilder, interpreter.TensorHandle
_precision = interpreter._ir.INPUT_PRECISION
_COMPARISONS = (
    np.less,
    np.less_equal,
    np.greater,
    np.greater_equal,
    np.equal,
    np.not_equal,
)
_PRECISIONS = {
    _precision.IEEE: "ieee",
    _precision.TF32: "tf32",
    _precision.TF32x3: "tf32x3",
    _precision.BF16x3: "bf16x3",
    _precision.BF16x6: "bf16x6",
}
_CASTS = (
    "create_si_to_fp",
    "create_ui_to_fp",
    "create_fp_to_si",
    "create_fp_to_ui",
    "create_fp_ext",
    "create_fp_trunc",
    "create_int_cast",
)


def install() -> None:
    """Patch the interpreter, for good: it serves a process of its own."""
    _repair_elementwise()
    _repair_casts()
    _repair_products()
    _repair_reductions()


def _is_bfloat16(handle: Handle) -> bool:
    return handle.dtype.scalar.name == "bf16"


def _float32(handle: Handle) -> Handle:
    return Handle(widen(handle.data), tl.float32) if _is_bfloat16(handle) else handle


def _repair_elementwise() -> None:
    binary, unary, ternary = Builder.binary_op, Builder.unary_op, Builder.ternary_op

    def binary_op(self, left, right, op):
        if op in _COMPARISONS:  # upstream labels the truth values with the dtype of the operands
            return Handle(op(_float32(left).data, _float32(right).data), tl.int1)
        if not _is_bfloat16(left):
            return binary(self, left, right, op)
        return Handle(narrow(op(widen(left.data), widen(right.data))), tl.bfloat16)

    def unary_op(self, arg, op):
        if not _is_bfloat16(arg):
            return unary(self, arg, op)
        return Handle(narrow(op(widen(arg.data))), tl.bfloat16)

    def ternary_op(self, first, second, third, op):
        if op is np.where or not _is_bfloat16(third):
            return ternary(self, first, second, third, op)
        result = op(widen(first.data), widen(second.data), widen(third.data))
        return Handle(narrow(result), tl.bfloat16)

    def create_fma(self, x, y, z):
        wide = _float32(x).data.astype(np.float64) * _float32(y).data + _float32(z).data
        if _is_bfloat16(z):
            return Handle(narrow(wide.astype(np.float32)), tl.bfloat16)
        return Handle(wide.astype(z.data.dtype), z.dtype.scalar)

    Builder.binary_op, Builder.unary_op, Builder.ternary_op = binary_op, unary_op, ternary_op
    Builder.create_fma = create_fma
    Builder.create_fneg = lambda self, arg: self.unary_op(arg, np.negative)
    Builder.get_bf16 = lambda self, value: Handle(
        narrow(np.array([value], np.float32)), tl.bfloat16
    )


def _repair_casts() -> None:
    cast, float_cast = Builder.cast_impl, Builder.create_fp_to_fp
    nearest_even = (None, interpreter._ir.ROUNDING_MODE.RTNE)

    def cast_impl(self, source, target):
        scalar = target.scalar
        if scalar == tl.bfloat16:
            data = source.data if _is_bfloat16(source) else narrow(source.data.astype(np.float32))
            return Handle(data, scalar)
        source = _float32(source)
        return source if source.dtype.scalar == scalar else cast(self, source, target)

    def create_fp_to_fp(self, source, target, rounding):
        either = _is_bfloat16(source) or target.scalar == tl.bfloat16
        if either and rounding in nearest_even:
            return self.cast_impl(source, target)
        return float_cast(self, source, target, rounding)

    Builder.cast_impl, Builder.create_fp_to_fp = cast_impl, create_fp_to_fp
    for name in _CASTS:
        setattr(Builder, name, lambda self, source, target, *_: self.cast_impl(source, target))


def _repair_products() -> None:
    product = Builder.create_dot
    interpreter.interpreter_builder.options = dataclasses.replace(
        interpreter.interpreter_builder.options,
        allowed_dot_input_precisions=tuple(_PRECISIONS.values()),
    )

    def create_dot(self, a, b, accumulator, precision, max_num_imprecise_acc):
        if a.dtype.scalar != tl.float32:
            return product(self, _float32(a), _float32(b), accumulator, precision, None)
        result = split_product(a.data, b.data, _PRECISIONS[precision])
        return Handle(result + accumulator.data, accumulator.dtype.scalar)

    Builder.create_dot = create_dot


def _repair_reductions() -> None:
    for name in ("sum", "min_max", "generic_reduce"):
        _reduce_in_float32(name)


def _reduce_in_float32(name: str) -> None:
    """Triton promotes nothing here: a bfloat16 reduction returns bfloat16."""
    reduce = getattr(interpreter.ReduceOps, name)

    def repaired(self, first, *rest, **options):
        if not isinstance(first, tl.tensor) or first.dtype.scalar != tl.bfloat16:
            return reduce(self, first, *rest, **options)
        kind = tl.float32
        if first.type.is_block():
            kind = tl.block_type(tl.float32, first.shape)
        wide = tl.tensor(Handle(widen(first.handle.data), tl.float32), kind)
        result = reduce(self, wide, *rest, **options)
        if isinstance(result, tuple):
            return tuple(back(self, x) for x in result)
        return back(self, result)

    def back(self, result):
        if result.dtype.scalar != tl.float32:
            return result
        bits = narrow(np.asarray(result.handle.data))
        return self.to_tensor(bits if result.type.is_block() else bits.item(), tl.bfloat16)

    setattr(interpreter.ReduceOps, name, repaired)
