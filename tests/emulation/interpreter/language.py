"""Puts the interpreter's functions in the place of Triton's language once for each launch.

Upstream looks through all of the language again whenever a kernel calls a function of its own,
which takes longer than most such functions do.
"""

from __future__ import annotations

import inspect

import triton.language as tl
from triton.runtime import interpreter


def install() -> None:
    """Patch the interpreter, for good: it serves a process of its own."""
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
