"""Spares the interpreter what it does again and again, and which takes longer than the arithmetic.

Upstream looks through all of the language whenever a kernel calls a function of its own, and builds
the type of every tensor, and the objects of its shape, anew.
"""

from __future__ import annotations

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


def _patch_language_once_a_launch() -> None:
    patch, replaced = interpreter._patch_lang, set()

    def patch_once(function):
        """Only the scope of a launch is restored; others last, as they do upstream."""
        here = {x for x in function.__globals__.values() if inspect.ismodule(x)}
        new = here & {tl, tl.core} - replaced
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
    known = functools.cache(interpreter._get_np_dtype)

    def numpy_dtype(kind):
        scalar = kind.scalar
        if isinstance(scalar, tl.pointer_type):
            return np.dtype(np.uint64)
        return known(scalar)

    interpreter._get_np_dtype = numpy_dtype


def _remember_shapes() -> None:
    tensor, block = tl.core.tensor, tl.core.block_type
    make_tensor, make_block = tensor.__init__, block.__init__
    tensors, blocks = {}, {}

    def tensor_init(self, handle, type):
        shape = tuple(type.shape) if type.is_block() else ()
        if shape not in tensors:
            make_tensor(self, handle, type)
            tensors[shape] = self.numel, self.shape
        self.handle, self.type, self.dtype = handle, type, type.scalar
        self.numel, self.shape = tensors[shape]

    def block_init(self, element_ty, shape):
        sides = tuple(x.value if isinstance(x, tl.constexpr) else x for x in shape)
        key = (str(element_ty), sides)
        if key not in blocks:
            make_block(self, element_ty, shape)
            blocks[key] = self.shape, self.numel, self.name
        self.element_ty = element_ty
        self.shape, self.numel, self.name = blocks[key]

    tensor.__init__, block.__init__ = tensor_init, block_init
