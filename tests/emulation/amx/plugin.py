"""Lets a test session run the AMX kernels where the processor has no AMX:

    python -m pytest -p tests.emulation.amx.plugin tests/similarity -k cpu

The library is the one that a machine with AMX compiles, but for the header of the tile unit.
"""

from __future__ import annotations

import importlib
import os
import shlex

from sslkernels import native
from sslkernels.native import build, flags
from tests.emulation.amx import unit


def emulate() -> None:
    """Make this process take the emulated unit for a real one."""
    if reason := unit.why_not_emulated():
        raise RuntimeError(reason)
    isa = importlib.import_module("sslkernels.native.isa")  # whose name a function has there
    features = isa.cpu_features()
    command = [*build.find_compiler().command, *unit.compiler_options()]
    os.environ["CXX"] = shlex.join(command)
    isa.cpu_features = lambda: features | flags.ISAS["AMX"].cpu_features
    isa.allow_amx = lambda: True
    native.AHEAD_OF_TIME = unit.INCLUDE  # a library made at installation has the real instructions


if not unit.is_real():
    emulate()
