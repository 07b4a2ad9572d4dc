"""A pytest plugin for a process that interprets kernels: `-p tests.emulation.interpreter.plugin`.

Loaded before any test module, and so before any kernel is decorated.
"""

from __future__ import annotations

import os

import numpy as np
import pytest

if os.environ.get("TRITON_INTERPRET") != "1":
    raise RuntimeError("the interpreter's plugin needs TRITON_INTERPRET=1 in the environment")

from tests.emulation.interpreter import arithmetic, language, memory

arithmetic.install()
language.install()
memory.install()
np.seterr(all="ignore")  # log(0) is -inf on a GPU, without a word


@pytest.fixture
def kernel_memory() -> memory.Memory:
    """The watched memory, its counts at zero."""
    memory.MEMORY.reset()
    return memory.MEMORY
