"""What is timed is the same loss everywhere, on the rows that count, and the truth is right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional as F

from benchmarks import accuracy
from benchmarks.case import Case
from benchmarks.errors import Unsuitable
from benchmarks.linear_cross_entropy import (
    IGNORED,
    LinearCrossEntropy,
    counted_rows,
    dense,
    dense_16,
    dense_gathered,
    exact_linear_cross_entropy,
)
from benchmarks.registry import loss_and_gradients

OP = LinearCrossEntropy()
PLAIN = [one for one in OP.implementations if not (one.compiled or one.gpu_only or one.yardstick)]


def _case(dtype: str = "float32", masked: float = 0.15) -> Case:
    return Case("linear_cross_entropy", (96, 24, 61), dtype, parameters={"masked": masked})


def _double(case: Case) -> tuple[torch.Tensor, ...]:
    return OP.inputs(replace(case, dtype="float64"), "random")


@pytest.mark.parametrize("kind", OP.input_kinds)
@pytest.mark.parametrize("masked", [0.15, 1.0])
@pytest.mark.parametrize("dtype", ["bfloat16", "float32", "float64"])
@pytest.mark.parametrize("one", PLAIN, ids=lambda one: one.name)
def test_every_implementation_computes_the_same_loss(
    one, dtype: str, masked: float, kind: str
) -> None:
    case = _case(dtype, masked)
    if reason := one.cannot_run(case.device):
        pytest.skip(reason)
    try:
        function = one.build(case)
    except Unsuitable as why:
        pytest.skip(str(why))
    inputs = OP.inputs(case, kind)
    error = accuracy.error_of(one.name, function, inputs, OP.exact(case, inputs), kind)
    assert accuracy.is_different(error, case) is None
    assert error.gradient < {"bfloat16": 0.1, "float32": 1e-5, "float64": 1e-12}[dtype]


@pytest.mark.slow
@pytest.mark.parametrize(
    "one", [one for one in OP.implementations if one.compiled], ids=lambda one: one.name
)
def test_what_compiles_computes_the_same_loss(one) -> None:
    case = _case()
    if reason := one.cannot_run(case.device):
        pytest.skip(reason)
    inputs = OP.inputs(case, "random")
    error = accuracy.error_of(one.name, one.build(case), inputs, OP.exact(case, inputs), "random")
    assert accuracy.is_different(error, case) is None
    assert error.gradient < 1e-5


def test_exact_in_blocks_agrees_with_autograd(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.linear_cross_entropy.BLOCK_ROWS", 5)
    inputs = _double(_case())
    loss, gradients = exact_linear_cross_entropy(*inputs)
    wanted, wanted_gradients = loss_and_gradients(dense, inputs)
    torch.testing.assert_close(loss, wanted.detach())
    torch.testing.assert_close(gradients, wanted_gradients)


def test_gathering_leaves_the_loss_as_it_is() -> None:
    inputs = _double(_case())
    torch.testing.assert_close(
        loss_and_gradients(dense_gathered, inputs), loss_and_gradients(dense, inputs)
    )


def test_a_dropped_bias_is_noticed() -> None:
    case = _case("float32")
    hidden, weight, bias, target = OP.inputs(case, "random")
    inputs = (hidden, weight, (bias + torch.linspace(-2, 2, 61)).detach().requires_grad_(), target)
    truth = OP.exact(case, inputs)
    wrong = accuracy.error_of("x", lambda h, w, b, t: dense(h, w, 0 * b, t), inputs, truth, "r")
    assert "computes a different loss" in (accuracy.is_different(wrong, case) or "")


def test_the_products_do_the_work_of_a_dense_step_and_return_shapes() -> None:
    case = _case()
    inputs = OP.inputs(case, "random")
    products = OP.implementation("products")
    with torch.profiler.profile(record_shapes=True) as profile:
        _, gradients = loss_and_gradients(products.build(case), inputs)
    assert [one.shape for one in gradients] == [one.shape for one in inputs[:3]]
    multiplied = sorted(
        (*event.input_shapes[0], event.input_shapes[1][1])
        for event in profile.events()
        if event.name == "aten::mm"
    )
    rows, (_, dim, classes) = counted_rows(case), case.shape
    assert multiplied == sorted([(rows, dim, classes), (rows, classes, dim), (classes, rows, dim)])


def test_inputs_are_the_same_every_time_and_the_targets_take_no_gradient() -> None:
    first, second = (OP.inputs(_case("bfloat16"), "random") for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))
    *trained, target = first
    assert all(one.is_leaf and one.requires_grad for one in trained)
    assert [tuple(one.shape) for one in trained] == [(96, 24), (61, 24), (61,)]
    assert {one.dtype for one in trained} == {torch.bfloat16}
    assert target.dtype == torch.int64 and not target.requires_grad
    assert (target != IGNORED).sum() == counted_rows(_case()) == 14


def test_likely_targets_have_about_half_of_the_probability() -> None:
    hidden, weight, bias, target = OP.inputs(_case("float64", masked=1.0), "likely")
    share = F.linear(hidden, weight, bias).softmax(1)[torch.arange(96), target].mean().item()
    assert 0.35 < share < 0.65


def test_what_needs_a_gpu_is_left_out_by_name_on_a_cpu() -> None:
    liger = OP.implementation("liger")
    assert liger.cannot_run("cpu") == "needs a GPU, this case is on the CPU"
    gone = replace(liger, module="surely_not_installed")
    assert gone.cannot_run("cuda") == (
        "surely_not_installed is not installed: pip install liger-kernel"
    )


def test_summaries_show_the_gathered_baselines_beside_the_full_one() -> None:
    names = [one.name for one in OP.implementations]
    assert set(OP.compared) < set(names)
    assert {"eager", "compile", "eager-full"} < set(OP.compared)


def test_grid_has_the_published_rows() -> None:
    found = {(c.shape, c.parameters["masked"], c.kind) for c in OP.grid(quick=False)}
    kinds = ["bfloat16", "float32 highest", "float32 high"]
    shapes = [((8192, 768, 30522), 0.15), ((2048, 256, 8192), 0.15), ((1024, 768, 50257), 1.0)]
    assert found == {(*shape, kind) for shape in shapes for kind in kinds}
    assert {(c.shape, c.kind) for c in OP.grid(quick=True)} == {
        ((2048, 256, 8192), "bfloat16"),
        ((2048, 256, 8192), "float32 highest"),
    }


def test_logits_of_sixteen_bits_are_taken_to_float32_as_transformers_does() -> None:
    case = _case("bfloat16", 1.0)
    hidden, weight, bias, target = OP.inputs(case, "random")
    loss = dense(hidden, weight, bias, target)
    logits = F.linear(hidden, weight, bias)
    assert torch.equal(loss, F.cross_entropy(logits.float(), target))
    assert dense_16(hidden, weight, bias, target).dtype is torch.bfloat16
    with pytest.raises(Unsuitable, match="of 16-bit inputs alone"):
        next(one for one in OP.implementations if one.name == "eager-16").build(_case())
