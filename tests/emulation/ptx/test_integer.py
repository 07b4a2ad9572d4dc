"""Integer instructions against Python's integers, and against values worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulation.ptx.snippets import evaluated

RANDOM = np.random.default_rng(0)
S32 = np.array([0, 1, -1, 7, -7, 2**31 - 1, -(2**31), 123456789], np.int32)
T32 = np.array([3, -3, 5, -5, 2**31 - 1, 2, 7, -123], np.int32)
U32 = S32.view(np.uint32)
V32 = T32.view(np.uint32)
S64 = RANDOM.integers(-(2**63), 2**63, 32, np.int64)
T64 = RANDOM.integers(-(2**63), 2**63, 32, np.int64)


def quotient(a, b):
    """Towards zero."""
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


PAIRS = {
    "add.s32": lambda a, b: a + b,
    "sub.s32": lambda a, b: a - b,
    "mul.lo.s32": lambda a, b: a * b,
    "mul.hi.s32": lambda a, b: a * b >> 32,
    "div.s32": quotient,
    "rem.s32": lambda a, b: a - b * quotient(a, b),
    "min.s32": min,
    "max.s32": max,
    "and.b32": lambda a, b: a & b,
    "or.b32": lambda a, b: a | b,
    "xor.b32": lambda a, b: a ^ b,
}


def wrapped(values, dtype):
    bits = 8 * np.dtype(dtype).itemsize
    unsigned = np.array([x % 2**bits for x in values], f"uint{bits}")
    return unsigned.view(dtype)


@pytest.mark.parametrize("name", PAIRS)
def test_32_bits_signed(name):
    found = evaluated(f"{name} out, a, b;", np.int32, S32, T32)
    expected = [PAIRS[name](int(a), int(b)) for a, b in zip(S32, T32, strict=True)]
    np.testing.assert_array_equal(found, wrapped(expected, np.int32))


@pytest.mark.parametrize("name", PAIRS)
def test_32_bits_unsigned(name):
    code = f"{name.replace('s32', 'u32')} out, a, b;"
    expected = [PAIRS[name](int(a), int(b)) for a, b in zip(U32, V32, strict=True)]
    np.testing.assert_array_equal(
        evaluated(code, np.uint32, U32, V32), wrapped(expected, np.uint32)
    )


@pytest.mark.parametrize("name", PAIRS)
def test_64_bits(name):
    code = f"{name.replace('32', '64')} out, a, b;"
    compute = PAIRS[name] if "hi" not in name else lambda a, b: a * b >> 64
    expected = [compute(int(a), int(b)) for a, b in zip(S64, T64, strict=True)]
    np.testing.assert_array_equal(evaluated(code, np.int64, S64, T64), wrapped(expected, np.int64))


def test_multiply_add():
    found = evaluated("mad.lo.s32 out, a, b, 5;", np.int32, S32, T32)
    expected = [int(a) * int(b) + 5 for a, b in zip(S32, T32, strict=True)]
    np.testing.assert_array_equal(found, wrapped(expected, np.int32))


@pytest.mark.parametrize(("kind", "a", "b"), [("s32", S32, T32), ("u32", U32, V32)])
def test_wide_products(kind, a, b):
    expected = [int(x) * int(y) for x, y in zip(a, b, strict=True)]
    out = np.dtype(a.dtype.kind + "8")
    np.testing.assert_array_equal(evaluated(f"mul.wide.{kind} out, a, b;", out, a, b), expected)
    found = evaluated(f"mad.wide.{kind} out, a, b, -9;", np.int64, a, b)
    np.testing.assert_array_equal(found, wrapped([x - 9 for x in expected], np.int64))


def test_shifts_past_the_width():
    by = np.array([0, 1, 31, 32, 40, 255], np.uint32)
    value = np.full(6, -8, np.int32)
    found = evaluated("shr.s32 out, a, b;", np.int32, value, by)
    np.testing.assert_array_equal(found, [-8, -4, -1, -1, -1, -1])
    found = evaluated("shr.u32 out, a, b;", np.uint32, value, by)
    np.testing.assert_array_equal(found, [2**32 - 8, 2**31 - 4, 1, 0, 0, 0])
    found = evaluated("shl.b32 out, a, b;", np.uint32, value, by)
    np.testing.assert_array_equal(found, [2**32 - 8, 2**32 - 16, 0, 0, 0, 0])


def test_funnel_shifts():
    low, high = np.array([0x89ABCDEF], np.uint32), np.array([0x01234567], np.uint32)
    for code, expected in {
        "shf.l.wrap.b32 out, a, b, 8;": 0x23456789,
        "shf.r.wrap.b32 out, a, b, 8;": 0x6789ABCD,
        "shf.r.clamp.b32 out, a, b, 40;": 0x01234567,
        "shf.r.wrap.b32 out, a, b, 40;": 0x6789ABCD,
    }.items():
        assert evaluated(code, np.uint32, low, high)[0] == expected, code


def test_fields_of_bits():
    value = np.array([0xABCD1234], np.uint32)
    for code, expected in {
        "bfe.u32 out, a, 4, 8;": 0x23,
        "bfe.u32 out, a, 28, 8;": 0xA,
        "bfe.u32 out, a, 0, 0;": 0,
        "bfe.s32 out, a, 28, 4;": 0xFFFFFFFA,
        "bfe.s32 out, a, 0, 5;": 0xFFFFFFF4,
        "bfe.s32 out, a, 4, 1;": 0xFFFFFFFF,
        "bfi.b32 out, 0xFF, a, 4, 8;": 0xABCD1FF4,
        "not.b32 out, a;": 0x5432EDCB,
        "popc.b32 out, a;": 15,
        "clz.b32 out, a;": 0,
        "clz.b32 out, 1;": 31,
        "brev.b32 out, a;": 0x2C48B3D5,
    }.items():
        assert evaluated(code, np.uint32, value)[0] == expected, code


def test_functions_of_three_bits():
    a, b, c = RANDOM.integers(0, 2**32, (3, 8), np.uint32)
    for table, expected in {0x96: a ^ b ^ c, 0xE8: a & b | c & (a | b), 0x40: a & b & ~c}.items():
        found = evaluated(f"lop3.b32 out, a, b, c, {table:#x};", np.uint32, a, b, c)
        np.testing.assert_array_equal(found, expected)


def test_bytes_chosen_from_two_words():
    a, b = np.array([0x33221100], np.uint32), np.array([0x776655F4], np.uint32)
    assert evaluated("prmt.b32 out, a, b, 0x5410;", np.uint32, a, b)[0] == 0x55F41100
    assert evaluated("prmt.b32 out, a, b, 0x0123;", np.uint32, a, b)[0] == 0x00112233
    assert evaluated("prmt.b32 out, a, b, 0x000C;", np.uint32, a, b)[0] == 0x000000FF


def test_division_by_zero():
    a, zero = np.array([7, -7], np.int32), np.zeros(2, np.int32)
    np.testing.assert_array_equal(evaluated("div.s32 out, a, b;", np.int32, a, zero), [-1, -1])


@pytest.mark.parametrize(
    ("name", "holds"),
    [("lo", [0, 0, 1]), ("hs", [1, 1, 0]), ("hi", [0, 1, 0]), ("ls", [1, 0, 1])],
)
def test_unsigned_comparisons(name, holds):
    a, b = np.array([1, -1, 1], np.int32), np.array([1, 1, -1], np.int32)
    code = f"setp.{name}.u32 %p0, a, b; selp.b32 out, 1, 0, %p0;"
    np.testing.assert_array_equal(evaluated(code, np.int32, a, b), holds)


def test_a_comparison_and_its_opposite_combined():
    a = np.array([-2, 0, 2], np.int32)
    code = """
        setp.ne.s32 %p2, a, 2;
        setp.lt.and.s32 %p0|%p1, a, 0, %p2;
        selp.b32 %r0, 1, 0, %p0; selp.b32 %r1, 2, 0, %p1; or.b32 out, %r0, %r1;
    """
    np.testing.assert_array_equal(evaluated(code, np.int32, a), [1, 2, 0])


def test_splitting_and_joining():
    a = np.array([0x11112222], np.uint32)
    code = "mov.b32 {%h0, %h1}, a; mov.b32 out, {%h1, %h0};"
    assert evaluated(code, np.uint32, a)[0] == 0x22221111


def test_only_guarded_threads_change():
    a = np.arange(32, dtype=np.int32)
    code = (
        "mov.u32 out, 5; setp.lt.s32 %p0, a, 3; @%p0 add.s32 out, a, 100; @!%p0 sub.s32 out, a, 1;"
    )
    np.testing.assert_array_equal(evaluated(code, np.int32, a), np.where(a < 3, a + 100, a - 1))
