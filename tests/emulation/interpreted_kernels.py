"""The repaired interpreter on small kernels, right ones and wrong ones. Run by test_interpreter."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from tests.emulation.interpreter.formats import round_bfloat16, split_product

COUNT, BLOCK = 40, 16
PROGRAMS = triton.cdiv(COUNT, BLOCK)


def refused(kind: str, message: str):
    """The interpreter wraps what a kernel raises."""
    return pytest.raises(Exception, match=rf"{kind}\(.*{message}")


@triton.jit
def elementwise(x, y, out, OP: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    a, b = tl.load(x + i), tl.load(y + i)
    if OP == "add":
        r = a + b
    elif OP == "multiply":
        r = a * b
    elif OP == "maximum":
        r = tl.maximum(a, b)
    elif OP == "compare":
        r = (a > b).to(x.dtype.element_ty)
    elif OP == "select":
        r = tl.where(a > 0, a, b)
    elif OP == "negate":
        r = -a
    elif OP == "sum":
        r = tl.zeros((BLOCK,), x.dtype.element_ty) + tl.sum(a, 0)
    elif OP == "max":
        r = tl.zeros((BLOCK,), x.dtype.element_ty) + tl.max(a, 0)
    elif OP == "through float32":
        r = (a.to(tl.float32) * b.to(tl.float32)).to(x.dtype.element_ty)
    tl.store(out + i, r)


ELEMENTWISE = {
    "add": torch.add,
    "multiply": torch.multiply,
    "maximum": torch.maximum,
    "compare": lambda x, y: (x > y).to(x.dtype),
    "select": lambda x, y: torch.where(x > 0, x, y),
    "negate": lambda x, y: -x,
    "sum": lambda x, y: x.float().sum().to(x.dtype).expand_as(x),
    "max": lambda x, y: x.amax().expand_as(x),
    "through float32": torch.multiply,
}


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
@pytest.mark.parametrize("op", ELEMENTWISE)
def test_elementwise_and_reductions(op, dtype):
    x, y = torch.randn(2, 64, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.zeros_like(x)
    elementwise[(1,)](x, y, out, op, 64)
    # Sums may be taken in another order, and float16 ones are rounded on the way.
    tolerance = 8 * torch.finfo(dtype).eps if op == "sum" else 0.0
    torch.testing.assert_close(out, ELEMENTWISE[op](x, y), rtol=tolerance, atol=tolerance)


@triton.jit
def matrix_product(a, b, out, PRECISION: tl.constexpr, BLOCK: tl.constexpr):
    i = tl.arange(0, BLOCK)
    at = i[:, None] * BLOCK + i[None, :]
    tl.store(out + at, tl.dot(tl.load(a + at), tl.load(b + at), input_precision=PRECISION))


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_products_of_16_bits_are_exact_up_to_the_sum(dtype):
    a, b = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0)).to(dtype)
    out = torch.zeros(32, 32)
    matrix_product[(1,)](a, b, out, "ieee", 32)
    torch.testing.assert_close(out.double(), a.double() @ b.double(), rtol=0.0, atol=1e-5)


@pytest.mark.parametrize(
    ("precision", "least", "most"),
    [
        ("ieee", 0.0, 6e-6),
        ("bf16x6", 0.0, 6e-6),
        ("tf32x3", 0.0, 8e-6),
        ("bf16x3", 1e-5, 1e-3),
        ("tf32", 1e-3, 5e-2),
    ],
)
def test_float32_products_are_as_exact_as_their_parts(precision, least, most):
    a, b = torch.randn(2, 32, 32, generator=torch.Generator().manual_seed(0))
    out = torch.zeros(32, 32)
    matrix_product[(1,)](a, b, out, precision, 32)
    error = float((out.double() - a.double() @ b.double()).abs().max())
    assert least <= error <= most


def test_an_infinite_operand_of_a_split_product_gives_infinity():
    a = np.array([[np.inf, 1.0]], np.float32)
    b = np.array([[2.0], [3.0]], np.float32)
    for precision in ("ieee", "tf32", "bf16x3", "bf16x6"):
        assert split_product(a, b, precision) == np.inf


def test_bfloat16_rounds_to_nearest_even():
    values = torch.randn(10_000, generator=torch.Generator().manual_seed(0))
    halfway = torch.tensor([1 + 2**-8, 1 + 3 * 2**-8, float("inf"), -float("inf"), 3e38])
    for x in (values, halfway):
        assert torch.equal(torch.from_numpy(round_bfloat16(x.numpy())), x.bfloat16().float())


@triton.jit
def copy(x, out, count, BLOCK: tl.constexpr, SLACK: tl.constexpr, OTHER: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    mask = i < count + SLACK
    value = tl.load(x + i, mask=mask, other=0.0) if OTHER else tl.load(x + i, mask=mask)
    tl.store(out + i, value, mask=mask)


def test_a_right_mask_passes_and_its_bytes_are_counted(kernel_memory):
    x, out = torch.randn(COUNT), torch.zeros(COUNT)
    copy[(PROGRAMS,)](x, out, COUNT, BLOCK, 0, True)
    assert torch.equal(x, out)
    assert (kernel_memory.loaded, kernel_memory.stored) == (4 * COUNT, 4 * COUNT)
    assert kernel_memory.touched() == {"x": 4 * COUNT, "out": 4 * COUNT}


def test_a_mask_off_by_one_is_caught():
    x, out = torch.randn(COUNT), torch.zeros(COUNT)
    with refused("OutOfBounds", "load by program 2: 1 lanes outside"):
        copy[(PROGRAMS,)](x, out, COUNT, BLOCK, 1, True)


def test_a_store_out_of_bounds_is_caught():
    x, out = torch.randn(COUNT), torch.zeros(COUNT - 1)
    with refused("OutOfBounds", "store by program 2: 1 lanes outside"):
        copy[(PROGRAMS,)](x, out, COUNT, BLOCK, 0, True)


def test_a_lane_in_the_next_tensor_is_caught():
    """An allocator may well put one tensor right behind another."""
    x, out = torch.randn(2 * COUNT).split(COUNT)
    copy[(PROGRAMS,)](x, out, COUNT, BLOCK, 0, True)
    with refused("OutOfBounds", f"load by program 2: 1 lanes outside.*byte {4 * COUNT} of x"):
        copy[(PROGRAMS,)](x, out, COUNT, BLOCK, 1, True)


@triton.jit
def masked_sum(x, out, count, BLOCK: tl.constexpr, OTHER: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.load(x + i, mask=i < count, other=0.0) if OTHER else tl.load(x + i, mask=i < count)
    tl.store(out, tl.sum(value))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_lane_whose_mask_is_off_is_poison_without_other(dtype):
    x, out = torch.ones(COUNT, dtype=dtype), torch.zeros(1, dtype=dtype)
    masked_sum[(1,)](x, out, COUNT, 64, True)
    assert out.item() == COUNT
    masked_sum[(1,)](x, out, COUNT, 64, False)
    assert out.isnan().all()


@triton.jit
def accumulate(x, total, count, BLOCK: tl.constexpr, ATOMIC: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    part = tl.sum(tl.load(x + i, mask=i < count, other=0.0))
    if ATOMIC:
        tl.atomic_add(total, part)
    else:
        tl.store(total, tl.load(total) + part)


def test_atomics_of_several_programs_pass(kernel_memory):
    x, total = torch.ones(COUNT), torch.zeros(1)
    accumulate[(PROGRAMS,)](x, total, COUNT, BLOCK, True)
    assert total.item() == COUNT
    assert kernel_memory.updated == 4 * PROGRAMS


def test_a_sum_across_programs_without_atomics_is_caught():
    with refused("Race", "program 1 reads what another program writes, in total"):
        accumulate[(PROGRAMS,)](torch.ones(COUNT), torch.zeros(1), COUNT, BLOCK, False)


@triton.jit
def shift_left(x, out, count, BLOCK: tl.constexpr):
    i = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    value = tl.load(x + i + 1, mask=i + 1 < count, other=0.0)
    tl.store(out + i, value, mask=i < count)


def test_writing_what_another_program_reads_is_caught():
    x = torch.randn(COUNT)
    shift_left[(PROGRAMS,)](x, torch.zeros(COUNT), COUNT, BLOCK)
    with refused("Race", "program 1 writes what another program reads"):
        shift_left[(PROGRAMS,)](x, x, COUNT, BLOCK)


@triton.jit
def overlapping(out, BLOCK: tl.constexpr, STRIDE: tl.constexpr):
    i = tl.program_id(0) * STRIDE + tl.arange(0, BLOCK)
    tl.store(out + i, i.to(tl.float32))


def test_overlapping_stores_of_programs_are_caught():
    overlapping[(2,)](torch.zeros(32), 16, 16)
    with refused("Race", "program 1 writes what another program writes"):
        overlapping[(2,)](torch.zeros(32), 16, 15)


@triton.jit
def collide(out, BLOCK: tl.constexpr, SAME: tl.constexpr):
    i = tl.arange(0, BLOCK)
    value = tl.zeros((BLOCK,), tl.float32) if SAME else i.to(tl.float32)
    tl.store(out + i // 2, value)


def test_lanes_that_store_different_values_to_one_address_are_caught():
    collide[(1,)](torch.ones(8), 16, True)
    with refused("Race", "stores different values to one address"):
        collide[(1,)](torch.ones(8), 16, False)
