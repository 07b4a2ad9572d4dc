"""Instructions of a whole warp: shuffles, votes, matrices."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulation.ptx import errors
from tests.emulation.ptx.formats import from_bf16, to_bf16
from tests.emulation.ptx.snippets import evaluated, kernel, run

RANDOM = np.random.default_rng(0)
LANES = np.arange(32, dtype=np.uint32)


@pytest.mark.parametrize(
    ("code", "expected"),
    [
        ("bfly.b32 out, a, 4, 31, -1;", LANES ^ 4),
        ("down.b32 out, a, 3, 31, -1;", np.where(LANES + 3 > 31, LANES, LANES + 3)),
        ("up.b32 out, a, 3, 0, -1;", np.where(LANES < 3, LANES, LANES - 3)),
        ("idx.b32 out, a, 7, 31, -1;", np.full(32, 7)),
        # Segments of eight threads: the mask 24 in bits 8 to 12.
        ("idx.b32 out, a, 7, 0x181F, -1;", LANES // 8 * 8 + 7),
        ("down.b32 out, a, 3, 0x181F, -1;", np.where(LANES % 8 > 4, LANES, LANES + 3)),
    ],
)
def test_shuffles(code, expected):
    np.testing.assert_array_equal(evaluated(f"shfl.sync.{code}", np.uint32, LANES), expected)


def test_assertions():
    """As nvcc has them: a message, in a branch that is taken where one does not hold."""
    call = "{ .param .b64 one; st.param.b64 [one+0], %d9; call.uni __assertfail, ( one ); }"
    code = "mov.u32 out, a; setp.lt.u32 %p0, a, {}; @%p0 bra $HOLDS; " + call + " $HOLDS:"
    held = evaluated(code.replace("{}", "32", 1), np.uint32, LANES)
    np.testing.assert_array_equal(held, LANES)
    with pytest.raises(errors.AssertionFailed, match=r"__assertfail"):
        evaluated(code.replace("{}", "31", 1), np.uint32, LANES)
    with pytest.raises(errors.Unsupported, match="vprintf"):
        evaluated(code.replace("{}", "32", 1).replace("__assertfail", "vprintf"), np.uint32, LANES)


def test_a_shuffle_says_who_was_out_of_range():
    code = "shfl.sync.down.b32 %r0|%p0, a, 3, 31, -1; selp.b32 out, 1, 0, %p0;"
    np.testing.assert_array_equal(evaluated(code, np.uint32, LANES), LANES < 29)


def test_a_shuffle_needs_the_threads_that_it_names():
    code = "mov.u32 out, 0; setp.lt.u32 %p0, a, 16; @%p0 shfl.sync.bfly.b32 out, a, 1, 31, {};"
    half = evaluated(code.format(0xFFFF), np.uint32, LANES)
    np.testing.assert_array_equal(half, np.where(LANES < 16, LANES ^ 1, 0))
    with pytest.raises(errors.Divergence, match=r"shfl\.sync\.bfly"):
        evaluated(code.format(-1), np.uint32, LANES)
    with pytest.raises(errors.Divergence, match="not there"):
        evaluated(code.format(0xFFFF).replace("a, 1,", "a, 16,"), np.uint32, LANES)


def test_votes():
    for mode, expected in {"any": 1, "all": 0, "uni": 0}.items():
        code = (
            f"setp.eq.u32 %p0, a, 3; vote.sync.{mode}.pred %p1, %p0, -1; selp.b32 out, 1, 0, %p1;"
        )
        assert (evaluated(code, np.uint32, LANES) == expected).all(), mode
    code = "setp.lt.u32 %p0, a, 5; vote.sync.ballot.b32 out, %p0, -1;"
    assert (evaluated(code, np.uint32, LANES) == 0b11111).all()
    code = "mov.u32 out, 0; setp.gt.u32 %p0, a, 29; @%p0 activemask.b32 out;"
    assert evaluated(code, np.uint32, LANES)[31] == 0xC0000000


def test_reductions():
    a = RANDOM.integers(-(2**31), 2**31, 32, np.int32)
    total = evaluated("redux.sync.add.s32 out, a, -1;", np.int32, a)
    assert (total == a.sum(dtype=np.int32)).all()
    assert (evaluated("redux.sync.min.s32 out, a, -1;", np.int32, a) == a.min()).all()
    largest = evaluated("redux.sync.max.u32 out, a, -1;", np.uint32, a)
    assert (largest == a.view(np.uint32).max()).all()


@pytest.mark.parametrize("transposed", [False, True])
def test_ldmatrix(transposed):
    """Four matrices of eight rows in shared memory, row after row."""
    matrices = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    out = np.zeros((32, 4, 2), np.uint16)
    body = f"""
        mad.wide.u32 %d10, %thread, 16, %d0;
        ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%d10];
        mov.b32 %r4, buffer;
        mad.lo.u32 %r5, %thread, 16, %r4;
        st.shared.v4.b32 [%r5], {{%r0, %r1, %r2, %r3}};
        ldmatrix.sync.aligned.m8n8.x4{".trans" if transposed else ""}.shared.b16
            {{%r6, %r7, %r8, %r9}}, [%r5];
        mad.wide.u32 %d10, %thread, 16, %d1;
        st.global.v4.b32 [%d10], {{%r6, %r7, %r8, %r9}};
    """
    run(kernel(body, 2, shared=512), matrices, out)
    expected = matrices.swapaxes(1, 2) if transposed else matrices
    for thread in range(32):
        row, column = thread // 4, 2 * (thread % 4)
        np.testing.assert_array_equal(out[thread], expected[:, row, column : column + 2])


def fragment(matrix, per_register, places, dtype):
    """The elements that every thread holds [32, elements], by the formulas of the PTX ISA.

    Element i of a thread is `places[i]` = (1 if eight rows below, columns to the right, number in
    its register) from where the thread begins. B is passed transposed.
    """
    elements = []
    for thread in range(32):
        row, column = thread // 4, thread % 4 * per_register
        elements.append([matrix[row + 8 * down, column + right + i] for down, right, i in places])
    return np.array(elements, dtype)


A16 = [(0, 0, 0), (0, 0, 1), (1, 0, 0), (1, 0, 1), (0, 8, 0), (0, 8, 1), (1, 8, 0), (1, 8, 1)]
B16 = [(0, 0, 0), (0, 0, 1), (0, 8, 0), (0, 8, 1)]
A32 = [(0, 0, 0), (1, 0, 0), (0, 4, 0), (1, 4, 0)]
B32 = [(0, 0, 0), (0, 4, 0)]
PRODUCTS = {
    "m16n8k16.row.col.f32.bf16.bf16.f32": (16, 2, A16, B16, np.uint16),
    "m16n8k16.row.col.f32.f16.f16.f32": (16, 2, A16, B16, np.float16),
    "m16n8k8.row.col.f32.tf32.tf32.f32": (8, 1, A32, B32, np.float32),
}


@pytest.mark.parametrize("name", PRODUCTS)
def test_mma(name):
    depth, packed, of_a, of_b, dtype = PRODUCTS[name]
    a, b = RANDOM.normal(size=(16, depth)), RANDOM.normal(size=(depth, 8))
    if dtype == np.uint16:
        stored_a, stored_b = (to_bf16(x.astype(np.float32)) for x in (a, b))
        a, b = from_bf16(stored_a), from_bf16(stored_b)
    else:
        keep = np.uint32(0xFFFFE000)  # what a matrix unit sees of a float32 number
        a, b = ((x.astype("f4").view("u4") & keep).view("f4").astype(dtype) for x in (a, b))
        stored_a, stored_b = a, b
    c = RANDOM.normal(size=(16, 8)).astype(np.float32)
    in_a = fragment(stored_a, packed, of_a, dtype)
    in_b = fragment(stored_b.T, packed, of_b, dtype)
    in_c = fragment(c, 2, A16[:4], np.float32)
    out = np.zeros((32, 4), np.float32)
    a_names = ", ".join(f"%r{i}" for i in range(len(of_a) // packed))
    b_names = ", ".join(f"%r{4 + i}" for i in range(len(of_b) // packed))
    body = f"""
        mad.wide.u32 %d10, %thread, 16, %d0;
        ld.global.v4.b32 {{%r0, %r1, %r2, %r3}}, [%d10];
        mad.wide.u32 %d10, %thread, 8, %d1;
        ld.global.v2.b32 {{%r4, %r5}}, [%d10];
        mad.wide.u32 %d10, %thread, 16, %d2;
        ld.global.v4.f32 {{%f0, %f1, %f2, %f3}}, [%d10];
        mma.sync.aligned.{name} {{%f4, %f5, %f6, %f7}},
            {{{a_names}}}, {{{b_names}}}, {{%f0, %f1, %f2, %f3}};
        mad.wide.u32 %d10, %thread, 16, %d3;
        st.global.v4.f32 [%d10], {{%f4, %f5, %f6, %f7}};
    """
    counts = run(kernel(body, 4), in_a, in_b, in_c, out)
    expected = a.astype(np.float64) @ b.astype(np.float64) + c
    np.testing.assert_allclose(out, fragment(expected, 2, A16[:4], np.float64), atol=1e-6)
    assert counts.matrix_instructions() == 1
    assert counts.matrix_flops() == 2 * a.size * b.shape[1]


def test_a_product_needs_the_whole_warp():
    body = """
        setp.lt.u32 %p0, %thread, 31; mov.b32 %r0, 0;
        @%p0 mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%r0, %r0, %r0, %r0},
            {%r0, %r0, %r0, %r0}, {%r0, %r0}, {%r0, %r0, %r0, %r0};
    """
    with pytest.raises(errors.Divergence, match=r"mma\.sync"):
        run(kernel(body, 0))
