"""Floating-point instructions and conversions against NumPy, PyTorch and values by hand."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from tests.emulation.ptx.snippets import evaluated

NAN, INF = float("nan"), float("inf")
RANDOM = np.random.default_rng(0)
X, Y, Z = RANDOM.normal(size=(3, 32)).astype(np.float32)
TINY = np.float32(1e-40)


def singles(*values):
    return np.array(values, np.float32)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("add.f32 out, a, b;", X + Y),
        ("sub.rn.f32 out, a, b;", X - Y),
        ("mul.f32 out, a, b;", X * Y),
        ("div.full.f32 out, a, b;", X / Y),
        ("min.f32 out, a, b;", np.minimum(X, Y)),
        ("max.f32 out, a, b;", np.maximum(X, Y)),
        ("neg.f32 out, a;", -X),
        ("abs.f32 out, a;", np.abs(X)),
        ("rcp.approx.ftz.f32 out, a;", 1 / X),
        ("fma.rn.f32 out, a, b, c;", (X.astype(np.float64) * Y + Z).astype(np.float32)),
        ("add.f32 out, a, 0f3F800000;", X + 1),
        ("copysign.f32 out, a, b;", np.copysign(Y, X)),
    ],
)
def test_arithmetic(code, expected):
    np.testing.assert_array_equal(evaluated(code, np.float32, X, Y, Z), expected)


@pytest.mark.parametrize(
    ("name", "function"),
    [
        ("ex2.approx.ftz", np.exp2),
        ("lg2.approx", np.log2),
        ("sqrt.rn", np.sqrt),
        ("rsqrt.approx", lambda x: 1 / np.sqrt(x)),
        ("sin.approx", np.sin),
        ("cos.approx", np.cos),
        ("tanh.approx", np.tanh),
    ],
)
def test_functions(name, function):
    a = np.abs(X) + np.float32(0.1)
    found = evaluated(f"{name}.f32 out, a;", np.float32, a)
    np.testing.assert_allclose(found, function(a.astype(np.float64)), rtol=1e-7)


def test_a_sum_rounded_towards_zero():
    tiny = 2.0**-60
    a, b = singles(1, -1, 1, -1, 3, 0, INF), singles(-tiny, tiny, tiny, -tiny, 4, 0, 1)
    below = 1 - 2.0**-24
    found = evaluated("add.rz.f32 out, a, b;", np.float32, a, b)
    np.testing.assert_array_equal(found, singles(below, -below, 1, -1, 7, 0, INF))
    exact = X.astype(np.float64) + Y
    found = evaluated("add.rz.f32 out, a, b;", np.float32, X, Y)
    assert (np.abs(found) <= np.abs(exact)).all()
    assert (np.abs(np.nextafter(found, np.copysign(singles(INF), found))) > np.abs(exact)).all()


def test_a_double_product_is_not_rounded_before_its_sum():
    a, c = np.array([1 + 2.0**-40]), np.array([-(1 + 2.0**-39)])
    assert evaluated("fma.rn.f64 out, a, a, b;", np.float64, a, c) == 2.0**-80
    assert a * a + c == 0
    for b in (NAN, INF, 0.0):
        found = evaluated("fma.rn.f64 out, a, b, c;", np.float64, a, np.array([b]), c)
        np.testing.assert_array_equal(found, a * b + c)


def test_a_product_is_not_rounded_before_its_sum():
    a = singles(1 + 2**-12)
    found = evaluated("mul.f32 out, a, a; neg.f32 %f0, out; fma.rn.f32 out, a, a, %f0;", "f4", a)
    assert found[0] == 2.0**-24


def test_subnormal_numbers():
    a = singles(TINY, -TINY)
    assert (evaluated("add.f32 out, a, a;", np.float32, a) == a + a).all()
    flushed = evaluated("add.ftz.f32 out, a, a;", np.float32, a)
    assert (flushed == 0).all() and (np.signbit(flushed) == [False, True]).all()
    half = np.float32(1e-38)
    assert evaluated("mul.ftz.f32 out, a, 0f3F000000;", np.float32, singles(half))[0] == 0


def test_nan_in_minimum_and_maximum():
    a, b = singles(NAN, 1, NAN), singles(2, NAN, NAN)
    np.testing.assert_array_equal(evaluated("max.f32 out, a, b;", "f4", a, b), [2, 1, NAN])
    np.testing.assert_array_equal(evaluated("max.NaN.f32 out, a, b;", "f4", a, b), [NAN] * 3)
    np.testing.assert_array_equal(evaluated("min.f32 out, a, b;", "f4", a, b), [2, 1, NAN])


def test_double_precision():
    a, b = RANDOM.normal(size=(2, 32))
    np.testing.assert_array_equal(evaluated("mul.f64 out, a, b;", np.float64, a, b), a * b)
    np.testing.assert_array_equal(evaluated("div.rn.f64 out, a, b;", np.float64, a, b), a / b)


@pytest.mark.parametrize(
    ("name", "holds"),
    [
        ("lt", [1, 0, 0, 0]),
        ("ltu", [1, 0, 0, 1]),
        ("ne", [1, 0, 1, 0]),
        ("neu", [1, 0, 1, 1]),
        ("geu", [0, 1, 1, 1]),
        ("ge", [0, 1, 1, 0]),
        ("eq", [0, 1, 0, 0]),
        ("num", [1, 1, 1, 0]),
        ("nan", [0, 0, 0, 1]),
    ],
)
def test_comparisons(name, holds):
    a, b = singles(1, 2, 3, NAN), singles(2, 2, 2, 2)
    code = f"setp.{name}.f32 %p0, a, b; selp.b32 out, 1, 0, %p0;"
    np.testing.assert_array_equal(evaluated(code, np.int32, a, b), holds)


def test_to_bfloat16_and_back():
    a = np.concatenate([X[:26], singles(INF, -INF, 3.4e38, 1 + 2**-8, 1 + 3 * 2**-8, TINY)])
    found = evaluated("cvt.rn.bf16.f32 out, a;", np.uint16, a)
    expected = torch.tensor(a).to(torch.bfloat16)
    np.testing.assert_array_equal(found, expected.view(torch.uint16).numpy())
    back = evaluated("cvt.f32.bf16 out, a;", np.float32, found)
    np.testing.assert_array_equal(back, expected.float().numpy())
    assert evaluated("cvt.rn.bf16.f32 out, a;", np.uint16, singles(NAN))[0] == 0x7FFF


def test_to_half_and_back():
    a = np.concatenate([X[:29], singles(INF, 70000, 1e-7)])
    with np.errstate(over="ignore"):
        expected = a.astype(np.float16)
    np.testing.assert_array_equal(evaluated("cvt.rn.f16.f32 out, a;", np.float16, a), expected)
    back = evaluated("cvt.f32.f16 out, a;", np.float32, expected)
    np.testing.assert_array_equal(back, expected.astype(np.float32))


def test_packed_pairs_have_the_first_operand_on_top():
    a, b = singles(1.0), singles(-2.0)
    assert evaluated("cvt.rn.bf16x2.f32 out, a, b;", np.uint32, a, b)[0] == 0x3F80C000
    assert evaluated("cvt.rn.f16x2.f32 out, a, b;", np.uint32, a, b)[0] == 0x3C00C000


def test_to_tf32_ties_go_away_from_zero():
    a = singles(1 + 2**-11, -1 - 2**-11, 1 + 2**-12, 1 + 2**-11 + 2**-23)
    found = evaluated("cvt.rna.tf32.f32 out, a;", np.float32, a)
    np.testing.assert_array_equal(found, [1 + 2**-10, -1 - 2**-10, 1, 1 + 2**-10])


def test_floats_to_integers():
    a = singles(1.5, -1.5, 2.5, NAN, INF, -INF, 3e9)
    ends = [0, 2**31 - 1, -(2**31), 2**31 - 1]
    for rounding, near in {
        "rzi": [1, -1, 2],
        "rni": [2, -2, 2],
        "rmi": [1, -2, 2],
        "rpi": [2, -1, 3],
    }.items():
        found = evaluated(f"cvt.{rounding}.s32.f32 out, a;", np.int32, a)
        np.testing.assert_array_equal(found, near + ends)
    unsigned = evaluated("cvt.rzi.u32.f32 out, a;", np.uint32, a)
    np.testing.assert_array_equal(unsigned, [1, 0, 2, 0, 2**32 - 1, 0, 3 * 10**9])
    whole = evaluated("cvt.rni.f32.f32 out, a;", np.float32, a)
    np.testing.assert_array_equal(whole, np.rint(a))


def test_integers_to_floats():
    a = np.array([2**24 + 1, 2**24 + 3, -5], np.int32)
    found = evaluated("cvt.rn.f32.s32 out, a;", np.float32, a)
    np.testing.assert_array_equal(found, [2**24, 2**24 + 4, -5])
    found = evaluated("cvt.rn.f32.u32 out, a;", np.float32, a)
    assert found[2] == np.float32(2**32 - 5)


def test_integers_to_integers():
    a = np.array([300, -1, -129], np.int32)
    found = evaluated("cvt.s64.s32 out, a;", np.int64, a)
    np.testing.assert_array_equal(found, [300, -1, -129])
    found = evaluated("cvt.u64.u32 out, a;", np.int64, a)
    np.testing.assert_array_equal(found, [300, 2**32 - 1, 2**32 - 129])
    found = evaluated("cvt.s32.s8 out, a;", np.int32, a)
    np.testing.assert_array_equal(found, [44, -1, 127])
    found = evaluated("cvt.sat.s8.s32 %h0, a; cvt.s32.s8 out, %h0;", np.int32, a)
    np.testing.assert_array_equal(found, [127, -1, -128])
