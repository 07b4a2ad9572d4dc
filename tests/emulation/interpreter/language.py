"""Spares the interpreter what it does again and again, and which takes longer than the arithmetic.

Upstream looks through all of the language whenever a kernel calls a function of its own; builds the
type of every tensor, and the objects of its shape, anew; converts operands that agree; and computes
in 64 bits whether integers overflow, for an assertion that it then leaves out.
"""

from __future__ import annotations

import dataclasses
import functools
import inspect

import numpy as np
import triton.language as tl
from triton.runtime import interpreter


def install() -> None:
    """Patch the interpreter, for good: it serves a process of its own."""
    _patch_language_once_a_launch()
    _remember_dtypes()
    _remember_shapes()
    _convert_only_what_differs()
    _call_builtins_directly()
    builder = interpreter.interpreter_builder
    builder.options = dataclasses.replace(builder.options, sanitize_overflow=False)


def _patch_language_once_a_launch() -> None:
    patch, replaced = interpreter._patch_lang, set()

    @functools.cache
    def visible(function):
        modules = {x for x in function.__globals__.values() if inspect.ismodule(x)}
        return modules & {tl, tl.core}

    def patch_once(function):
        """Only the scope of a launch is restored; others last, as they do upstream."""
        new = visible(function) - replaced
        if not new:
            return interpreter._LangPatchScope()
        replaced.update(new)
        scope = patch(function)
        restore = scope.restore

        def restored():
            restore()
            replaced.difference_update(new)

        scope.restore = restored
        return scope

    interpreter._patch_lang = patch_once


def _remember_dtypes() -> None:
    known, equal = functools.cache(interpreter._get_np_dtype), tl.core.dtype.__eq__

    def same(self, other):
        if type(other) is tl.core.dtype:
            return self.name == other.name
        return equal(self, other)

    def numpy_dtype(kind):
        scalar = kind.scalar
        if isinstance(scalar, tl.pointer_type):
            return np.dtype(np.uint64)
        return known(scalar)

    interpreter._get_np_dtype, tl.core.dtype.__eq__ = numpy_dtype, same


def _remember_shapes() -> None:
    """A tensor and its type also have the lengths of their sides, as `sides`."""
    tensor, block = tl.core.tensor, tl.core.block_type
    make_tensor, make_block = tensor.__init__, block.__init__
    tensors, blocks = {}, {}

    def tensor_init(self, handle, type):
        sides = type.sides if type.is_block() else ()
        if sides not in tensors:
            make_tensor(self, handle, type)
            tensors[sides] = self.numel, self.shape
        self.handle, self.type, self.dtype, self.sides = handle, type, type.scalar, sides
        self.numel, self.shape = tensors[sides]

    def block_init(self, element_ty, shape):
        sides = tuple(x.value if isinstance(x, tl.constexpr) else x for x in shape)
        key = (element_ty.name, sides)
        if key not in blocks:
            make_block(self, element_ty, shape)
            blocks[key] = self.shape, self.numel, self.name
        self.element_ty, self.sides = element_ty, sides
        self.shape, self.numel, self.name = blocks[key]

    tensor.__init__, block.__init__ = tensor_init, block_init


def _convert_only_what_differs() -> None:
    """Operands of one dtype, offsets of pointers, and numbers that were converted before."""
    semantic, tensor = interpreter.TritonSemantic, tl.core.tensor
    convert, broadcast = semantic.binary_op_type_checking_impl, semantic.broadcast_impl_value
    numbers = {}

    def operands(self, left, right, pointer=False, *rest):
        if type(left) is tensor and type(right) is tensor:
            divides, dtype = rest[2:] == (True,), left.dtype
            same = dtype is right.dtype and not dtype.is_ptr() and not (divides and _narrow(dtype))
            if same or (pointer and dtype.is_ptr() and right.dtype.is_int()):
                return self.broadcast_impl_value(left, right)
        elif type(left) is tensor and type(right) in (int, float):
            key = (right, type(right), left.dtype.name, left.sides, rest)
            if key not in numbers:
                kept, number = convert(self, left, right, pointer, *rest)
                numbers[key] = number if kept is left else None
            if numbers[key] is not None:
                return left, numbers[key]
        return convert(self, left, right, pointer, *rest)

    def together(self, left, right):
        if left.sides == right.sides:
            return left, right
        if not left.sides:
            return spread(left, right.sides), right
        if not right.sides:
            return left, spread(right, left.sides)
        return broadcast(self, left, right)

    def spread(scalar, sides):
        data = np.full(sides, scalar.handle.data, scalar.handle.data.dtype)
        handle = interpreter.TensorHandle(data, scalar.dtype)
        return tensor(handle, tl.core.block_type(scalar.dtype, list(sides)))

    semantic.binary_op_type_checking_impl = operands
    semantic.broadcast_impl_value = together


def _narrow(dtype) -> bool:
    """Whether quotients are of another dtype."""
    return dtype.name in ("fp16", "bf16")


def _call_builtins_directly() -> None:
    """Upstream takes an argument out of each call, and puts it in."""

    def patch_attribute(owner, name, member, builder, scope):
        function = getattr(member, "__wrapped__", member)

        def called(*arguments, _semantic=None, **named):
            return function(*arguments, **named, _semantic=interpreter.interpreter_semantic)

        scope.set_attr(owner, name, called)

    interpreter._patch_attr = patch_attribute
