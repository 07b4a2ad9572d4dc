"""The parser, and that what the emulator lacks is refused by name before anything runs."""

from __future__ import annotations

import re

import numpy as np
import pytest

from tests.emulation.ptx import errors
from tests.emulation.ptx.operands import Address, Immediate, Negated, Register, Tuple
from tests.emulation.ptx.snippets import kernel, run
from tests.emulation.ptx.text import kernels

MODULE = """//
.version 8.8
.target sm_80
.extern .shared .align 16 .b8 dynamic[];
.shared .align 4 .b8 first[6];
.visible .entry kernel(
    .param .u64 .ptr .global .align 1 kernel_param_0, // a pointer
    .param .f32 kernel_param_1
)
.reqntid 64
{
    .reg .pred  %p<3>;
    .reg .b32   %r<9>;
    .reg .b64   %rd<2>;
    .loc 1 94 36            // kernels.py:94:36
$L__begin:
    ld.param.b64 %rd1, [kernel_param_0];
    @!%p1 bra $L__end;
    /* two
       lines */ { .reg .b16 t; mov.b32 {t, _}, %r1; }
    .loc 1 95 2, function_name $L__info, inlined_at 1 3 4
    cp.async.cg.shared.global [ %r1 - 16 ], [ %rd1 + -8 ], 0x10, %r2;
$L__end:
    ret;
}
.file 1 "/somewhere/kernels.py"
.section .debug_loc { .b8 1 }
"""


def parsed():
    return kernels(MODULE)["kernel"]


def test_what_a_kernel_has():
    found = parsed()
    assert found.parameters == {"kernel_param_0": "u64", "kernel_param_1": "f32"}
    assert found.threads == (64, 1, 1)
    assert found.labels == {"$L__begin": 0, "$L__end": 4}
    assert found.shared == {"first": 0, "dynamic": 16}
    assert found.static_shared == 16


def test_what_an_instruction_has():
    load, branch, split, copy, _ = parsed().instructions
    assert (load.opcode, load.modifiers) == ("ld", ("param", "b64"))
    assert branch.guard == Negated(Register("%p1", np.dtype(bool)))
    assert isinstance(split.operands[0], Tuple)
    assert split.operands[0].parts[0] == Register("t", np.dtype(np.uint16))
    to, come_from, size, _ = copy.operands
    assert to == Address(Register("%r1", np.dtype(np.uint32)), -16)
    assert come_from == Address(Register("%rd1", np.dtype(np.uint64)), -8)
    assert size == Immediate(16)


def test_where_an_instruction_stands():
    copy = parsed().instructions[3]
    assert MODULE.splitlines()[copy.line - 1].strip().startswith("cp.async")
    assert copy.source == "kernels.py:95"
    assert str(copy).endswith(f"(line {copy.line}, kernels.py:95)")


@pytest.mark.parametrize(
    "code",
    [
        "wgmma.fence.sync.aligned;",
        "add.sat.s32 %r0, %r1, %r2;",  # known but for the modifier
        "add.f16x2 %r0, %r1, %r2;",
        "mul.rz.f32 %f0, %f1, %f2;",
        "ld.local.b32 %r0, [%d0];",
        "ld.b32 %r0, [%d0];",  # a generic address
        "bar.sync 1, 32;",
        "mma.sync.aligned.m16n8k16.row.col.f16.f16.f16.f16 %r0, %r1, %r2, %r3;",
        "cvt.rz.bf16.f32 %h0, %f0;",
        "call.uni (%r0), function, (%r1);",
    ],
)
def test_an_instruction_that_is_lacking_is_named(code):
    out = np.zeros(1, np.int32)
    ptx = kernel(f"mov.b32 %r9, 1;\nst.global.b32 [%d0], %r9;\n{code}", 1)
    line = next(n for n, text in enumerate(ptx.splitlines(), 1) if text == code)
    with pytest.raises(errors.Unsupported) as caught:
        run(ptx, out)
    assert code.rstrip(";") in str(caught.value) and f"line {line}" in str(caught.value)
    assert out[0] == 0, "nothing must have run"


def test_what_is_found_while_running_is_named_too():
    with pytest.raises(errors.Unsupported, match=re.escape("%clock, at `mov.u32 %r0, %clock`")):
        run(kernel("mov.u32 %r0, %clock;", 0))
    with pytest.raises(errors.Unsupported, match="symbol unheard"):
        run(kernel("mov.u32 %r0, unheard;", 0))
    with pytest.raises(errors.Malformed, match="narrower"):
        run(kernel("mov.b64 %r0, %d0;", 0))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "no .entry"),
        (".entry k() { mov.b32 %r0, 1;", "ends inside"),
        (".entry k() { .reg .b32 %r<2>; ld.global.b32 %r0, [%r1 * 2]; }", "no address"),
        (".entry k() { ret }", "no `;`"),
        (".entry k() { .reg .b32 %r<2>; mov.b32 !5, %r0; }", "negates no register"),
    ],
)
def test_malformed_text(text, message):
    with pytest.raises(errors.Malformed, match=message):
        kernels(text)


def test_no_such_label():
    with pytest.raises(errors.Malformed, match="no such label"):
        run(kernel("bra NOWHERE;", 0))


@pytest.mark.parametrize("body", ["", ".reg .pred %p; @%p ret;", ".reg .b32 r; mov.b32 r, 1;"])
def test_a_kernel_that_does_not_end(body):
    with pytest.raises(errors.Malformed, match="k does not end in ret"):
        run(f".entry k() .reqntid 32 {{ {body} }}")


def test_arguments_that_do_not_fit():
    with pytest.raises(ValueError, match="arguments: got 1"):
        run(kernel("", 2), 5)
    with pytest.raises(ValueError, match="threads: got"):
        run(kernel("", 0, threads=40))
