"""Loads, stores, atomics and copies: values, and what is counted of them."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulation.ptx import errors
from tests.emulation.ptx.counts import wavefronts_of
from tests.emulation.ptx.parameters import Struct
from tests.emulation.ptx.snippets import kernel, run

LANE = np.arange(32)
WARP = np.zeros(32, np.int64)


def test_vectors_and_narrow_types():
    source = np.arange(-64, 64, dtype=np.int8)
    out = np.zeros((32, 2), np.int32)
    body = """
        mad.wide.u32 %d10, %thread, 4, %d0;
        ld.global.s8 %r0, [%d10+1];
        ld.global.u8 %r1, [%d10+1];
        mad.wide.u32 %d10, %thread, 8, %d1;
        st.global.v2.b32 [%d10], {%r0, %r1};
    """
    run(kernel(body, 2), source, out)
    np.testing.assert_array_equal(out[:, 0], source[1::4])
    np.testing.assert_array_equal(out[:, 1], source[1::4].view(np.uint8))


def test_a_masked_load_leaves_its_register_alone():
    source, out = np.arange(20, dtype=np.int32), np.zeros(32, np.int32)
    body = """
        setp.lt.u32 %p0, %thread, 20; mov.b32 %r0, -9;
        mul.wide.u32 %d9, %thread, 4; add.s64 %d10, %d0, %d9; add.s64 %d11, %d1, %d9;
        @%p0 ld.global.b32 %r0, [%d10]; st.global.b32 [%d11], %r0;
    """
    counts = run(kernel(body, 2), source, out)
    np.testing.assert_array_equal(out, [*range(20), *[-9] * 12])
    assert (counts.bytes_read, counts.bytes_written) == (80, 128)
    assert (counts.sectors_read, counts.sectors_written) == (3, 4)
    assert (counts.touched_read, counts.touched_written) == (80, 128)


@pytest.mark.parametrize(("stride", "sectors"), [(4, 4), (8, 8), (32, 32), (0, 1)])
def test_sectors(stride, sectors):
    body = f"mad.wide.u32 %d10, %thread, {stride}, %d0; ld.global.b32 %r0, [%d10];"
    counts = run(kernel(body, 1), np.zeros(1024, np.uint8))
    assert (counts.sectors_read, counts.bytes_read) == (sectors, 128)
    assert counts.touched_read == (128 if stride else 4)


@pytest.mark.parametrize(
    ("address", "width", "expected"),
    [
        (4 * LANE, 4, (1, 1)),
        (8 * LANE, 4, (2, 1)),
        (128 * LANE, 4, (32, 1)),
        (0 * LANE, 4, (1, 1)),  # one word for all
        (132 * LANE, 4, (1, 1)),
        (2 * LANE, 2, (1, 1)),
        (16 * LANE, 16, (4, 4)),
        (64 * LANE, 16, (16, 4)),
        (8 * LANE, 8, (2, 2)),
    ],
)
def test_bank_conflicts(address, width, expected):
    assert wavefronts_of(WARP, LANE, address, width) == expected


ATOMICS = {
    "add.s32": 1000 + sum(range(64)),
    "max.s32": 1000,
    "min.s32": 0,
    "or.b32": 1000 | 63,
    "and.b32": 0,
    "xor.b32": 1000,
}


@pytest.mark.parametrize("name", ATOMICS)
def test_atomics(name):
    total = np.array([1000], np.int32)
    counts = run(kernel(f"red.global.{name} [%d0], %thread;", 1, threads=64), total)
    assert total[0] == ATOMICS[name]
    assert counts.bytes_written == 64 * 4


def test_an_atomic_returns_what_was_there():
    total, old = np.array([5], np.int32), np.zeros(64, np.int32)
    body = """
        atom.global.gpu.relaxed.add.u32 %r0, [%d0], 1;
        mad.lo.u32 %r1, %block, 32, %thread;
        mad.wide.u32 %d10, %r1, 4, %d1; st.global.b32 [%d10], %r0;
    """
    run(kernel(body, 2), total, old, grid=(2, 1, 1))
    assert sorted(old) == list(range(5, 69)) and total[0] == 69


def test_compare_and_swap_succeeds_once():
    word, old = np.array([-1], np.int32), np.zeros(32, np.int32)
    body = """
        atom.global.cas.b32 %r0, [%d0], -1, %thread;
        mad.wide.u32 %d10, %thread, 4, %d1; st.global.b32 [%d10], %r0;
    """
    run(kernel(body, 2), word, old)
    assert np.count_nonzero(old == -1) == 1 and old[word[0]] == -1


def test_a_float_sum_in_shared_memory():
    out = np.zeros(1, np.float32)
    body = """
        mov.b32 %r0, buffer; setp.eq.u32 %p0, %thread, 0;
        @%p0 st.shared.b32 [%r0], 0;
        bar.sync 0;
        atom.shared.add.f32 %f0, [%r0], 0f3FC00000;
        bar.sync 0;
        @%p0 ld.shared.f32 %f1, [%r0];
        @%p0 st.global.f32 [%d0], %f1;
    """
    run(kernel(body, 1, threads=96, shared=4), out)
    assert out[0] == 96 * 1.5
    before, between, after = body.split("bar.sync 0;")
    for broken in (f"{before}{between}bar.sync 0;{after}", f"{before}bar.sync 0;{between}{after}"):
        with pytest.raises(errors.Race, match="atomically"):
            run(kernel(broken, 1, threads=96, shared=4), out)


def test_a_copy_without_source_bytes_writes_zeros():
    source, out = np.arange(1, 65, dtype=np.int32), np.full(128, -1, np.int32)
    body = """
        mov.b32 %r0, buffer; mad.lo.u32 %r0, %thread, 16, %r0;
        setp.lt.u32 %p0, %thread, 16; selp.b32 %r1, 16, 0, %p0;
        mad.wide.u32 %d10, %thread, 16, %d0;
        cp.async.cg.shared.global [%r0], [%d10], 16, %r1;
        cp.async.commit_group; cp.async.wait_group 0;
        ld.shared.v4.b32 {%r2, %r3, %r4, %r5}, [%r0];
        mad.wide.u32 %d10, %thread, 16, %d1; st.global.v4.b32 [%d10], {%r2, %r3, %r4, %r5};
    """
    counts = run(kernel(body, 2, shared=512), source, out)
    np.testing.assert_array_equal(out, [*range(1, 65), *[0] * 64])
    assert counts.bytes_read == 256


def test_the_grid_in_three_dimensions():
    out = np.zeros((5, 4, 3, 32), np.int32)
    body = """
        mov.u32 %r0, %ctaid.x; mov.u32 %r1, %ctaid.y; mov.u32 %r2, %ctaid.z;
        mov.u32 %r3, %nctaid.x; mov.u32 %r4, %nctaid.y;
        mad.lo.u32 %r5, %r2, %r4, %r1; mad.lo.u32 %r5, %r5, %r3, %r0;
        mov.u32 %r6, %ntid.x; mad.lo.u32 %r5, %r5, %r6, %thread;
        mad.wide.u32 %d10, %r5, 4, %d0; st.global.b32 [%d10], %r5;
    """
    run(kernel(body, 1), out, grid=(3, 4, 5))
    np.testing.assert_array_equal(out.reshape(-1), np.arange(out.size))


class TestStructs:
    """Arguments by value, which are read at any place."""

    PTX = """
.version 8.0
.target sm_80
.address_size 64
.visible .entry snippet(.param .u32 skip, .param .align 8 .b8 given[24])
.reqntid 32
{
.reg .b32 %r<4>; .reg .b64 %d<8>;
mov.b64 %d1, given;
mov.u32 %r1, %tid.x;
and.b32 %r2, %r1, 3;
mad.wide.u32 %d2, %r2, 4, %d1;
ld.param.u32 %r3, [%d2+8];
ld.param.u64 %d3, [given];
mad.wide.u32 %d4, %r1, 4, %d3;
st.global.u32 [%d4], %r3;
ret;
}
"""

    def test_pointers_and_places(self):
        out = np.zeros(32, np.uint32)
        numbers = np.array([5, 6, 7, 8], np.uint32)
        run(self.PTX, 9, Struct(bytes(8) + numbers.tobytes(), {0: out}))
        assert (out == np.resize(numbers, 32)).all()

    def test_beyond_the_end(self):
        given = Struct(bytes(24), {0: np.zeros(32, np.uint32)})
        with pytest.raises(errors.OutOfBounds, match="4 bytes beyond the parameters"):
            run(self.PTX.replace("[%d2+8]", "[%d2+24]"), 9, given)

    def test_of_another_size(self):
        with pytest.raises(ValueError, match="got 16 bytes, the kernel has b8"):
            run(self.PTX, 9, Struct(bytes(16), {}))
