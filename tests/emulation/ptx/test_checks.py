"""Kernels that are right, and the same with one thing wrong, which must be caught."""

from __future__ import annotations

import numpy as np
import pytest

from tests.emulation.ptx import errors
from tests.emulation.ptx.snippets import kernel, run

REVERSE = """
    mad.wide.u32 %d10, %thread, 4, %d0; ld.global.b32 %r0, [%d10];
    mov.b32 %r1, buffer; mad.lo.u32 %r2, %thread, 4, %r1;
    st.shared.b32 [%r2], %r0;
    bar.sync 0;
    sub.s32 %r3, 127, %thread; mad.lo.u32 %r3, %r3, 4, %r1;
    ld.shared.b32 %r4, [%r3];
    mad.wide.u32 %d10, %thread, 4, %d1; st.global.b32 [%d10], %r4;
"""
"""Turns round 128 numbers through shared memory."""

MASKED_SUM = """
    mad.lo.u32 %r0, %block, 32, %thread;
    setp.lt.s32 %p0, %r0, 50;
    mul.wide.u32 %d9, %r0, 4; add.s64 %d10, %d0, %d9; add.s64 %d11, %d1, %d9;
    mov.b32 %r1, 0;
    @%p0 ld.global.b32 %r1, [%d10];
    add.s32 %r1, %r1, %block;
    @%p0 st.global.b32 [%d11], %r1;
"""
"""Adds their block to 50 numbers, in two blocks of 32 threads."""

PIPELINE = """
    mov.b32 %r1, buffer; mad.lo.u32 %r2, %thread, 16, %r1;
    xor.b32 %r3, %thread, 32; mad.lo.u32 %r3, %r3, 16, %r1;
    mad.wide.u32 %d10, %thread, 16, %d0;
    mov.b32 %r4, 0; mov.b32 %r5, 0;
    cp.async.cg.shared.global [%r2], [%d10], 16;
    cp.async.commit_group;
LOOP:
    add.s64 %d10, %d10, 1024;
    xor.b32 %r6, %r4, 1; mad.lo.u32 %r7, %r6, 1024, %r2;
    setp.lt.u32 %p0, %r5, 3;
    @%p0 cp.async.cg.shared.global [%r7], [%d10], 16;
    cp.async.commit_group;
    cp.async.wait_group 1;
    bar.sync 0;
    mad.lo.u32 %r8, %r4, 1024, %r3; ld.shared.v4.b32 {%r10, %r11, %r12, %r13}, [%r8];
    mad.lo.u32 %r14, %r5, 64, %thread; mad.wide.u32 %d11, %r14, 16, %d1;
    st.global.v4.b32 [%d11], {%r10, %r11, %r12, %r13};
    bar.sync 0; // before the next copy
    mov.b32 %r4, %r6; add.s32 %r5, %r5, 1;
    setp.lt.u32 %p1, %r5, 4;
    @%p1 bra LOOP;
"""
"""Copies four tiles of 1 KiB through two stages; a warp reads what the other one copied."""


def reversed_by(body):
    source, out = np.arange(128, dtype=np.int32), np.zeros(128, np.int32)
    run(kernel(body, 2, threads=128, shared=512), source, out)
    return out


def summed_by(body):
    source, out = np.arange(50, dtype=np.int32), np.zeros(50, np.int32)
    run(kernel(body, 2), source, out, grid=(2, 1, 1))
    return out


def piped_by(body):
    source, out = np.arange(1024, dtype=np.int32), np.zeros(1024, np.int32)
    run(kernel(body, 2, threads=64, shared=2048), source, out)
    return out


def changed(body, old, new):
    assert body.count(old) == 1
    return body.replace(old, new)


def test_what_is_right_passes():
    np.testing.assert_array_equal(reversed_by(REVERSE), np.arange(127, -1, -1))
    expected = np.arange(50) + (np.arange(50) >= 32)
    np.testing.assert_array_equal(summed_by(MASKED_SUM), expected)
    expected = np.arange(1024).reshape(4, 2, 128)[:, ::-1].reshape(-1)
    np.testing.assert_array_equal(piped_by(PIPELINE), expected)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("bar.sync 0;", "", errors.Race),
        ("bar.sync 0;", "bar.warp.sync -1;", errors.Race),
        ("bar.sync 0;", "setp.ne.s32 %p0, %thread, 5; @%p0 bar.sync 0;", errors.Race),
        ("bar.sync 0;", "setp.lt.s32 %p0, %thread, 32; @%p0 bar.sync 0;", errors.Race),
        ("sub.s32 %r3, 127", "sub.s32 %r3, 128", errors.OutOfBounds),
        ("sub.s32 %r3, 127", "sub.s32 %r3, 126", errors.OutOfBounds),
        ("st.shared.b32 [%r2]", "st.shared.b32 [%r2+4]", errors.OutOfBounds),
        ("st.shared.b32 [%r2]", "st.shared.b32 [%r1]", errors.Race),
        ("st.shared.b32 [%r2], %r0;", "", errors.Unwritten),
        ("ld.shared.b32 %r4, [%r3]", "ld.shared.b32 %r4, [%r3+2]", errors.Misaligned),
        ("ld.global.b32 %r0, [%d10]", "ld.global.b32 %r0, [%d10+4]", errors.OutOfBounds),
        ("ld.global.b32 %r0, [%d10]", "ld.global.b32 %r0, [%d10+-4]", errors.OutOfBounds),
        ("ld.global.b32 %r0, [%d10]", "ld.global.v2.b32 {%r0, %r9}, [%d10]", errors.Misaligned),
        ("%d10, %thread, 4, %d1", "%d10, %thread, 4, 0", errors.OutOfBounds),
        ("%d10, %thread, 4, %d1", "%d10, %thread, 8, %d1", errors.OutOfBounds),
    ],
)
def test_a_reversal_with_one_thing_wrong(old, new, error):
    with pytest.raises(error, match=r"at `.*` \(line \d+\)"):
        reversed_by(changed(REVERSE, old, new))


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("setp.lt.s32", "setp.le.s32", errors.OutOfBounds),
        ("@%p0 ld.global", "ld.global", errors.OutOfBounds),
        ("@%p0 st.global", "st.global", errors.OutOfBounds),
        ("@%p0 st.global", "@!%p0 st.global", errors.OutOfBounds),
        ("%block, 32", "%block, 31", errors.Race),
        ("%block, 32", "0, 32", errors.Race),
    ],
)
def test_a_mask_with_one_thing_wrong(old, new, error):
    with pytest.raises(error, match=r"at `.*` \(line \d+\)"):
        summed_by(changed(MASKED_SUM, old, new))


def test_a_masked_lane_that_is_used_is_poisoned():
    """Without its default the register holds ones where the load was masked, and no zeros."""
    body = changed(MASKED_SUM, "mov.b32 %r1, 0;", "").replace(
        "@%p0 st", "setp.ge.s32 %p1, %r1, 0; @%p1 st"
    )
    with pytest.raises(errors.OutOfBounds):
        summed_by(body)


@pytest.mark.parametrize(
    ("old", "new", "error"),
    [
        ("cp.async.wait_group 1;", "", errors.PendingCopy),
        ("cp.async.wait_group 1;", "cp.async.wait_group 2;", errors.PendingCopy),
        ("wait_group 1;\n    bar.sync 0;", "wait_group 1;", errors.Race),
        ("bar.sync 0; // before", "// before", errors.Race),
        ("setp.lt.u32 %p0, %r5, 3", "setp.le.u32 %p0, %r5, 3", errors.OutOfBounds),
        ("xor.b32 %r6, %r4, 1", "mov.b32 %r6, %r4", errors.PendingCopy),
        ("add.s64 %d10, %d10, 1024", "add.s64 %d10, %d10, 1028", errors.Misaligned),
        ("xor.b32 %r3, %thread, 32", "xor.b32 %r3, %thread, 64", errors.PendingCopy),
    ],
)
def test_a_pipeline_with_one_thing_wrong(old, new, error):
    with pytest.raises(error, match=r"at `.*` \(line \d+\)"):
        piped_by(changed(PIPELINE, old, new))


def test_a_race_among_blocks_of_different_chunks():
    """Blocks run 32 at a time; the hundredth still meets what the first wrote."""
    body = "and.b32 %r0, %block, {}; mad.wide.u32 %d10, %r0, 4, %d0; st.global.b32 [%d10], %block;"
    run(kernel(body.format(127), 1), np.zeros(128, np.int32), grid=(100, 1, 1))
    with pytest.raises(errors.Race):
        run(kernel(body.format(63), 1), np.zeros(128, np.int32), grid=(100, 1, 1))


def test_several_may_write_the_same():
    body = "mov.b32 %r0, buffer; st.shared.b32 [%r0], {0}; st.global.b32 [%d0], {0};"
    out = np.zeros(1, np.int32)
    run(kernel(body.format(7), 1, threads=64, shared=4), out, grid=(3, 1, 1))
    assert out[0] == 7
    with pytest.raises(errors.Race, match="different values"):
        run(kernel(body.format("%thread"), 1, threads=64, shared=4), out)


@pytest.mark.parametrize("writer", [0, 32])
def test_writing_what_several_have_read(writer):
    """Both warps read a byte at once, then one of them writes to it."""
    body = f"""
        mov.b32 %r0, buffer; setp.eq.u32 %p0, %thread, 0; setp.eq.u32 %p1, %thread, {writer};
        @%p0 st.shared.b32 [%r0], 1;
        bar.sync 0;
        ld.shared.b32 %r1, [%r0];
        @%p1 st.shared.b32 [%r0], 2;
    """
    with pytest.raises(errors.Race, match="overwrites what another read"):
        run(kernel(body, 0, threads=64, shared=4))
    run(kernel(body.replace("@%p1", "bar.sync 0; @%p1"), 0, threads=64, shared=4))


def test_reading_what_another_block_writes():
    body = """
        setp.eq.u32 %p0, %block, 0;
        @%p0 st.global.b32 [%d0], 1;
        @!%p0 ld.global.b32 %r0, [%d0];
    """
    with pytest.raises(errors.Race, match="block reads what another wrote"):
        run(kernel(body, 1), np.zeros(1, np.int32), grid=(2, 1, 1))


def test_threads_that_left_are_missed_at_a_barrier():
    body = "setp.eq.u32 %p0, %thread, 3; @%p0 ret; bar.sync 0;"
    with pytest.raises(errors.Divergence, match="barrier"):
        run(kernel(body, 0))


def test_warps_at_different_barriers():
    body = """
        setp.lt.u32 %p0, %thread, 32;
        @%p0 bra FIRST;
        bar.sync 0;
        bra BOTH;
    FIRST:
        bar.sync 0;
    BOTH:
    """
    with pytest.raises(errors.Divergence, match="barrier"):
        run(kernel(body, 0, threads=64))


def test_bounds_are_exact_to_the_byte():
    body = "ld.global.b32 %r0, [%d0];"
    run(kernel(body, 1), np.zeros(4, np.uint8))
    with pytest.raises(errors.OutOfBounds, match="4 bytes at byte 0 of buffer 0, which has 3"):
        run(kernel(body, 1), np.zeros(3, np.uint8))
    body = "mov.b32 %r0, buffer; st.shared.b32 [%r0], 0;"
    run(kernel(body, 0, shared=4))
    with pytest.raises(errors.OutOfBounds, match="block has 3"):
        run(kernel(body, 0, shared=3))


def test_threads_that_came_apart_meet_again():
    """Each thread goes round as often as its number says, then all add up."""
    out = np.zeros(32, np.int32)
    body = """
        mov.b32 %r0, 0;
    AGAIN:
        setp.ge.u32 %p0, %r0, %thread;
        @%p0 bra DONE;
        add.s32 %r0, %r0, 1;
        bra AGAIN;
    DONE:
        redux.sync.add.s32 %r1, %r0, -1;
        mad.wide.u32 %d10, %thread, 4, %d0; st.global.b32 [%d10], %r1;
    """
    run(kernel(body, 1), out)
    assert (out == sum(range(32))).all()
