"""The machine itself: what warps exchange, atomics, matrices, small floats, and what is counted."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.emulation.cuda import build, unity
from tests.emulation.cuda.run import SCHEDULES, Library, aligned

pytestmark = pytest.mark.skipif(bool(build.why_not()), reason=build.why_not())

SMALL = {"bfloat16": torch.bfloat16, "float16": torch.float16}


@functools.cache
def library() -> Library:
    return unity.library(sorted(Path(__file__).with_name("cases").glob("*.cu")))


def bits(x: torch.Tensor) -> np.ndarray:
    return aligned(x.view(torch.int16).numpy().view(np.uint16))


@pytest.mark.parametrize("schedule", SCHEDULES)
@pytest.mark.parametrize("name", SMALL)
def test_matrix_product(name, schedule):
    torch.manual_seed(0)
    a, b = (torch.randn(n, 32).to(SMALL[name]) for n in (16, 8))
    c = aligned(np.zeros((16, 8), np.float32), read_only=False)
    counts = library().run(f"product_{name}", bits(a), bits(b), c, schedule=schedule)
    np.testing.assert_allclose(c, (a.double() @ b.double().T).numpy(), rtol=1e-5, atol=1e-5)
    read = [x for x in counts if x.shared and not x.writes]
    assert read and all(x.moved == x.fewest for x in read)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_transposed_matrices(schedule):
    x = np.arange(256, dtype=np.uint16).reshape(4, 8, 8)
    out = np.zeros((4, 8, 8), np.uint16)
    library().run("matrices_transposed", aligned(x), out, schedule=schedule)
    np.testing.assert_array_equal(out, x.swapaxes(1, 2))


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_words_of_a_warp(schedule):
    x = np.arange(64, dtype=np.int32)
    x.flags.writeable = False
    out = np.zeros((64, 8), np.int32)
    library().run("warp_words", x, out, schedule=schedule)
    lane, warp = x % 32, x // 32 * 32
    threes = [sum(1 << i for i in range(32) if (i + first) % 3 == 0) for first in (0, 32)]
    expected = np.stack(
        [
            warp + 5,
            x ^ 3,
            np.where(lane < 30, x + 2, x),
            np.where(lane % 8 >= 2, x - 2, x),
            np.array(threes, np.uint32).view(np.int32)[x // 32],
            np.where(x < 32, 1, 2),
            np.where(lane < 8, warp + 7, 0),
            0 * x,
        ],
        axis=1,
    )
    np.testing.assert_array_equal(out, expected)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_atomics(schedule):
    x = np.random.default_rng(0).integers(-50, 50, 120).astype(np.int32)
    out = np.zeros(6, np.int32)
    library().run("atomic_updates", x, out, schedule=schedule)
    np.testing.assert_array_equal(out, [x.sum(), x.min(), x.max(), np.bitwise_or.reduce(x), 1, 1])


@pytest.mark.parametrize("name", SMALL)
def test_small_floats_are_rounded_as_torch_rounds(name):
    torch.manual_seed(1)
    a, b = (torch.randn(64).mul(100).to(SMALL[name]) for _ in range(2))
    out = np.zeros((64, 3), np.uint16)
    library().run(f"small_{name}", bits(a), bits(b), out)
    ours = torch.from_numpy(out.view(np.int16)).view(SMALL[name])
    assert torch.equal(ours, torch.stack([a + b, a * b, a - b], 1))


@pytest.mark.parametrize(("stride", "wavefronts"), [(32, 32), (33, 1)])
def test_bank_conflicts_are_counted(stride, wavefronts):
    x = aligned(np.arange(1024, dtype=np.float32).reshape(32, 32))
    out = aligned(np.zeros((32, 32), np.float32), read_only=False)
    counts = library().run(f"transposed_{stride}", x, out)
    np.testing.assert_array_equal(out, x.T)
    [read] = [x for x in counts if x.shared and not x.writes]
    assert (read.file, read.requests, read.fewest) == ("transposed.cu", 32, 32)
    assert read.moved == 32 * wavefronts


@pytest.mark.parametrize(("step", "sectors"), [(1, 4), (2, 8), (8, 32)])
def test_sectors_are_counted(step, sectors):
    x = aligned(np.ones(128, np.float32))
    out = aligned(np.zeros(32 * step, np.float32), read_only=False)
    read, written = sorted(library().run("scattered", x, out, step), key=lambda x: x.writes)
    assert (read.requests, read.bytes, read.moved, read.fewest) == (1, 512, 16, 16)
    assert (written.requests, written.bytes, written.moved, written.fewest) == (1, 128, sectors, 4)
    assert (out[::step] == 4).all()


def test_too_large_a_block_is_refused():
    with pytest.raises(RuntimeError, match="CUDA error 9"):
        library().run("too_many_threads")
