"""Kernels of a few lines, for the tests of the emulator itself."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.emulation.ptx.counts import Counts
from tests.emulation.ptx.formats import Array
from tests.emulation.ptx.lanes import Triple
from tests.emulation.ptx.machine import launch
from tests.emulation.ptx.text import kernels


def kernel(body: str, parameters: int, threads: int = 32, shared: int = 0) -> str:
    """A module of one kernel `snippet`: 64-bit parameters p0, p1, ..., `buffer` of shared memory.

    The body finds thread and block in %thread and %block, and has %r, %d (64 bits), %h (16 bits),
    %f (32 bits) and the predicates %p, each with a number.
    """
    names = ", ".join(f".param .u64 p{number}" for number in range(parameters))
    loads = "\n".join(f"ld.param.u64 %d{i}, [p{i}];" for i in range(parameters))
    return f"""
.version 8.0
.target sm_80
.address_size 64
.shared .align 16 .b8 buffer[{shared}];
.visible .entry snippet({names})
.reqntid {threads}
{{
.reg .b16 %h<64>; .reg .b32 %r<64>; .reg .f32 %f<64>; .reg .b64 %d<64>; .reg .pred %p<8>;
.reg .b32 %thread; .reg .b32 %block;
mov.u32 %thread, %tid.x;
mov.u32 %block, %ctaid.x;
{loads}
{body}
ret;
}}
"""


def run(ptx: str, *arguments: Any, grid: Triple = (1, 1, 1)) -> Counts:
    [found] = kernels(ptx).values()
    return launch(found, grid, arguments)


def evaluated(code: str, out: Any, *inputs: Array) -> Array:
    """What `code` leaves in `out`, in a warp whose threads have the inputs in `a`, `b`, `c`, ...

    Inputs have up to 32 elements, the result as many, of dtype `out`.
    """
    count = max(len(x) for x in inputs)
    padded = [np.resize(x, 32) for x in inputs]
    result = np.zeros(32, out)
    declared, loads = [], []
    for number, (name, value) in enumerate(zip("abcd", padded, strict=False)):
        bits = 8 * value.dtype.itemsize
        declared.append(f".reg .b{max(bits, 16)} {name};")
        loads.append(f"mad.wide.u32 %d20, %thread, {bits // 8}, %d{number};")
        loads.append(f"ld.global.b{bits} {name}, [%d20];")
    bits = 8 * result.dtype.itemsize
    before = "\n".join([*declared, f".reg .b{bits} out;", *loads])
    after = f"""
        mad.wide.u32 %d20, %thread, {bits // 8}, %d{len(padded)};
        st.global.b{bits} [%d20], out;
    """
    run(kernel(before + code + after, len(padded) + 1), *padded, result)
    return result[:count]
