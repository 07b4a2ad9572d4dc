"""linear_cross_entropy against torch in float64, and what others got wrong."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import sslkernels
from sslkernels import linear_cross_entropy
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.losses.linear_cross_entropy import reference
from sslkernels.similarity import chunked
from tests.losses.test_linear_cross_entropy_contract import (
    TestClassProbabilities as SoftContract,
)
from tests.losses.test_linear_cross_entropy_contract import TestLinearCrossEntropy as Contract
from tests.losses.test_linear_cross_entropy_contract import class_weights

CONTRACT, SOFT = Contract(), SoftContract()
NAMES = ("input", "linear_weight", "linear_bias")


def draw_target(rows, classes, counted, ignore_index=-100, seed=0):
    """Class indices of which about the share `counted` is not ignored."""
    generator = torch.Generator().manual_seed(seed)
    target = torch.randint(0, classes, (rows,), generator=generator)
    return target.masked_fill(torch.rand(rows, generator=generator) >= counted, ignore_index)


def torch_loss(input, linear_weight, target, linear_bias, reduction, softcap, z_loss, **options):
    """What torch has a word for, in its words: the mean and its divisor are torch's own."""
    logits = F.linear(input, linear_weight, linear_bias)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    loss = F.cross_entropy(logits, target, reduction=reduction, **options)
    z = z_loss * logits.logsumexp(-1) ** 2
    if not target.is_floating_point():
        z = z.masked_fill(target == options["ignore_index"], 0.0)
    if reduction == "none":
        return loss + z
    if reduction == "sum":
        return loss + z.sum()
    if target.is_floating_point():
        return loss + z.mean()
    # The negative log-likelihood of ones is the divisor of torch's mean.
    ones = -torch.ones_like(logits)
    ignored = options["ignore_index"]
    return loss + z.sum() / F.nll_loss(ones, target, options["weight"], None, ignored, None, "sum")


class TestDrawn:
    op = "linear_cross_entropy"
    options = {
        "rows": st.integers(1, 40),
        "classes": st.sampled_from([1, 2, 7, 8, 9, 30, 65]),
        "features": st.sampled_from([1, 3, 17, 130]),
        "reduction": st.sampled_from(["mean", "sum", "none"]),
        "label_smoothing": st.sampled_from([0.0, 0.1, 1.0]),
        "with_weight": st.booleans(),
        "with_bias": st.booleans(),
        "z_loss": st.sampled_from([0.0, 1e-4, 0.3]),
        "softcap": st.sampled_from([None, 1.5, 30.0]),
        "seed": st.integers(0, 2**31),
    }

    @settings(max_examples=200)
    @given(
        counted=st.sampled_from([0.15, 0.7, 1.0]),
        ignore_index=st.sampled_from([-100, -1, 0, 3, 10**6]),
        **options,
    )
    def test_class_indices_against_torch(self, implementation, counted, ignore_index, **options):
        options["classes"] += ignore_index == 0  # so that something is left
        target = draw_target(options["rows"], options["classes"], counted, ignore_index)
        target[0] = options["classes"] - 1 if ignore_index == 0 else 0
        self.compare(target, options, ignore_index=ignore_index)

    @settings(max_examples=100)
    @given(**options)
    def test_class_probabilities_against_torch(self, **options):
        generator = torch.Generator().manual_seed(options["seed"])
        target = torch.rand(options["rows"], options["classes"], generator=generator).double()
        with sslkernels.backend("chunked"):
            self.compare(target, options)

    def compare(self, target, drawn, **options):
        drawn = dict(drawn)
        names = NAMES if drawn.pop("with_bias") else NAMES[:2]
        sizes = {name: drawn.pop(name) for name in ("rows", "classes", "features")}
        tensors = CONTRACT.make(torch.float64, {"names": names}, drawn.pop("seed"), **sizes)
        weight = class_weights(sizes["classes"], torch.float64)
        options["weight"] = weight if drawn.pop("with_weight") else None
        leaves = [x.requires_grad_() for x in tensors.values()]
        if target.is_floating_point():
            leaves.append(target.requires_grad_())
        arguments = {"target": target, "linear_bias": None} | tensors | options | drawn
        expected, actual = torch_loss(**arguments), linear_cross_entropy(**arguments)
        assert torch.allclose(actual, expected, rtol=1e-10, atol=1e-12)
        upstream = torch.linspace(0.5, 1.5, expected.numel()).double().reshape(expected.shape)
        wanted = torch.autograd.grad(expected, leaves, upstream)
        for left, right in zip(torch.autograd.grad(actual, leaves, upstream), wanted, strict=True):
            assert torch.allclose(left, right, rtol=1e-9, atol=1e-11)

    @settings(max_examples=60)
    @given(dtype=st.sampled_from(FLOAT_DTYPES), soft=st.booleans(), **options)
    def test_every_dtype_against_the_definition(
        self, implementation, dtype, soft, with_weight, with_bias, **drawn
    ):
        soft = soft and implementation != "cpu"
        names = NAMES if with_bias else NAMES[:2]
        sizes = {name: drawn.pop(name) for name in ("rows", "classes", "features")}
        seed = drawn.pop("seed")
        variant = {"names": names, "weight": with_weight or None} | drawn
        contract = SOFT if soft else CONTRACT
        if not soft:
            variant["target"] = draw_target(sizes["rows"], sizes["classes"], 0.7, seed=seed)
        contract.check(contract.make(dtype, variant, seed, **sizes), variant)

    @pytest.mark.parametrize("rows, classes", [(300, 1030), (129, 257), (64, 30522)])
    @pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
    def test_many_blocks(self, implementation, rows, classes, dtype):
        target = draw_target(rows, classes, 0.5)
        variant = CONTRACT.variants["none everything"] | {"target": target}
        CONTRACT.check(CONTRACT.make(dtype, variant, 3, rows, classes, 64), variant)


class TestShapes:
    op = "linear_cross_entropy"

    @pytest.mark.parametrize("shape", [(), (6,), (2, 3), (2, 1, 3), (0,), (2, 0)])
    @pytest.mark.parametrize("soft", [False, True])
    def test_leading_dimensions(self, shape, soft):
        rows = math.prod(shape)
        tensors = CONTRACT.make(torch.float64, {"names": NAMES}, 0, rows, 9, 5)
        target = torch.rand(rows, 9).double() if soft else draw_target(rows, 9, 0.8)
        expected = reference(**tensors, target=target, reduction="none")
        tensors["input"] = tensors["input"].reshape(*shape, 5)
        target = target.reshape(*shape, 9) if soft else target.reshape(shape)
        loss, terms = linear_cross_entropy(
            **tensors, target=target, reduction="none", return_terms=True
        )
        assert loss.shape == terms.lse.shape == shape
        assert torch.allclose(loss.flatten(), expected)
        mean = linear_cross_entropy(**tensors, target=target)
        assert mean.shape == () and mean.isfinite()

    def test_not_contiguous(self, implementation):
        """Channels first, every second class, an expanded row."""
        x, w = torch.randn(2, 5, 7), torch.randn(22, 5)[::2]
        target = torch.randint(0, 11, (7, 2)).t()
        expected = reference(x.mT.contiguous(), w.contiguous(), target.contiguous())
        assert torch.allclose(linear_cross_entropy(x.mT, w, target), expected)
        row, one = torch.randn(5).expand(4, 5), torch.tensor(3).expand(4)
        expected = reference(row.contiguous(), w, one)
        assert torch.allclose(linear_cross_entropy(row, w, one), expected)

    @pytest.mark.parametrize("kind", [torch.int32, torch.uint8])
    def test_integers_of_any_width(self, implementation, kind):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES}, 0, 3, 200)
        target = torch.tensor([156, 3, 0])  # 156 is -100 to a uint8
        expected = linear_cross_entropy(**tensors, target=target)
        assert torch.equal(linear_cross_entropy(**tensors, target=target.to(kind)), expected)

    def test_labels_that_are_not_16_byte_aligned(self, implementation):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES}, 0, 7, 11)
        target = draw_target(8, 11, 0.7)[1:]
        expected = linear_cross_entropy(**tensors, target=target.clone())
        assert torch.equal(linear_cross_entropy(**tensors, target=target), expected)


class TestNothingCounts:
    op = "linear_cross_entropy"

    @pytest.mark.parametrize("variant", list(Contract.variants.values()), ids=Contract.variants)
    @pytest.mark.parametrize("rows", [0, 7])
    def test_zero_and_no_nan(self, implementation, variant, rows):
        """torch has NaN here for the mean, others ZeroDivisionError."""
        variant = variant | {"target": torch.full((rows,), -100)}
        results = CONTRACT.run(CONTRACT.make(torch.float32, variant, 0, rows), variant)
        for name, x in results.items():
            assert torch.equal(x, torch.zeros_like(x)), name

    def test_no_rows_of_probabilities(self):
        x = torch.zeros(0, 3, requires_grad=True)
        loss = linear_cross_entropy(x, torch.randn(5, 3), torch.rand(0, 5))
        loss.backward()
        assert loss == 0.0 and x.grad.shape == (0, 3)

    def test_targets_of_weight_zero_are_torchs_nan(self, implementation):
        """Rows count here: nothing to average over is the caller's, as in torch."""
        args = (torch.randn(3, 2), torch.randn(4, 2), torch.tensor([1, 1, 1]))
        assert linear_cross_entropy(*args, weight=torch.tensor([1.0, 0.0, 1.0, 1.0])).isnan()


class TestTargetsOutOfRange:
    op = "linear_cross_entropy"

    @pytest.mark.parametrize("wrong", [11, -1, -99, 2**40])
    def test_where_values_cannot_be_looked_at(self, fused, wrong):
        """Inside torch.compile the kernel notices; -1 is the engine's mark, not the caller's."""
        tensors = CONTRACT.make(torch.float32, {"names": NAMES}, 0, 3)
        call = torch.compile(linear_cross_entropy, backend="aot_eager", fullgraph=True)
        arguments = tensors | {"target": torch.tensor([0, wrong, -100])}
        with pytest.raises(RuntimeError, match=r"target.*(out of range|not in \[-1, )"):
            call(**arguments)


class TestOptions:
    op = "linear_cross_entropy"

    def test_confident_rows_have_no_negative_loss(self, implementation):
        """A bias counted twice in the target logit gives losses below zero."""
        x, w = torch.eye(4).repeat(2, 1), 30 * torch.eye(4)
        bias = torch.tensor([5.0, -5.0, 50.0, 0.0])
        target = torch.arange(4).repeat(2)
        loss = linear_cross_entropy(x, w, target, linear_bias=bias, reduction="none")
        expected = reference(
            x.double(), w.double(), target, linear_bias=bias.double(), reduction="none"
        )
        assert torch.allclose(loss.double(), expected, atol=1e-5)
        assert loss.min() >= -1e-5

    @pytest.mark.parametrize("denominator", [torch.tensor(11), torch.tensor([11.0]), 11, 11.0])
    def test_gradient_accumulation(self, implementation, denominator):
        """Micro-batches with their common denominator add up to the whole batch."""
        target = draw_target(20, 11, 1.0).index_fill(0, torch.tensor([0, 2, *range(5, 12)]), -100)
        tensors = CONTRACT.make(torch.float64, {"names": NAMES}, 0, 20)
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        whole = linear_cross_entropy(**leaves, target=target)
        wanted = torch.autograd.grad(whole, list(leaves.values()))
        parts = 0.0
        for rows in (slice(0, 3), slice(3, 12), slice(12, 20)):
            part = leaves | {"input": leaves["input"][rows]}
            parts = parts + linear_cross_entropy(
                **part, target=target[rows], denominator=denominator
            )
        assert torch.allclose(parts, whole, rtol=1e-12)
        for left, right in zip(
            torch.autograd.grad(parts, list(leaves.values())), wanted, strict=True
        ):
            assert torch.allclose(left, right, rtol=1e-10, atol=1e-14)

    @pytest.mark.parametrize("softcap", [None, 2.0])
    def test_terms(self, implementation, softcap):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES}, 0, 40)
        logits = F.linear(*(tensors[name] for name in NAMES))
        target = draw_target(40, 11, 0.6)
        target[:10] = logits[:10].argmax(1)
        loss, terms = linear_cross_entropy(
            **tensors, target=target, softcap=softcap, return_terms=True
        )
        logits = logits if softcap is None else softcap * torch.tanh(logits / softcap)
        counted = target != -100
        assert torch.allclose(terms.lse, logits.logsumexp(1) * counted)
        assert terms.correct.shape == () and terms.correct.dtype is torch.int64
        assert terms.correct == ((logits.argmax(1) == target) & counted).sum() >= 10
        assert torch.equal(loss, linear_cross_entropy(**tensors, target=target, softcap=softcap))

    def test_terms_of_probabilities(self):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES}, 0, 40)
        logits = F.linear(*(tensors[name] for name in NAMES))
        target = torch.rand(40, 11)
        target[:10] = logits[:10].softmax(1)
        _, terms = linear_cross_entropy(**tensors, target=target, return_terms=True)
        assert torch.allclose(terms.lse, logits.logsumexp(1))
        assert terms.correct == (logits.argmax(1) == target.argmax(1)).sum() >= 10

    def test_lse_carries_its_gradient(self, implementation):
        tensors = CONTRACT.make(torch.float64, {"names": NAMES})
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        target = draw_target(7, 11, 0.7)
        loss, terms = linear_cross_entropy(
            **leaves, target=target, reduction="sum", return_terms=True
        )
        by_hand = loss + 0.3 * terms.lse.square().sum()
        direct = linear_cross_entropy(**leaves, target=target, reduction="sum", z_loss=0.3)
        for left, right in zip(
            torch.autograd.grad(by_hand, list(leaves.values())),
            torch.autograd.grad(direct, list(leaves.values())),
            strict=True,
        ):
            assert torch.allclose(left, right)

    def test_ignore_index_none_is_torchs_default(self, implementation):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES})
        target = draw_target(7, 11, 0.5)
        loss = linear_cross_entropy(**tensors, target=target, ignore_index=None)
        assert torch.equal(loss, linear_cross_entropy(**tensors, target=target))


class TestMixedPrecision:
    op = "linear_cross_entropy"

    def test_loss_of_half_inputs_is_not_rounded(self, implementation):
        """Logits in bfloat16 cost two percent of the loss; rounding the operands does not."""
        tensors = CONTRACT.make(torch.bfloat16, {"names": NAMES}, 0, 64, 200, 64)
        tensors["linear_weight"] *= 5
        target = draw_target(64, 200, 1.0)
        exact = reference(
            **{n: x.double() for n, x in tensors.items()}, target=target, reduction="none"
        )
        ours = linear_cross_entropy(**tensors, target=target, reduction="none")
        eager = reference(
            **{n: x.bfloat16() for n, x in tensors.items()}, target=target, reduction="none"
        )
        assert ours.dtype is torch.float32
        assert (ours - exact).abs().mean() < (eager - exact).abs().mean() / 10

    def test_weight_gradient_is_summed_in_float32(self, implementation):
        """A sum of eighths kept in bfloat16 would stop growing at 32."""
        x = torch.ones(4096, 2, dtype=torch.bfloat16)
        w = torch.zeros(8, 2, dtype=torch.bfloat16, requires_grad=True)
        linear_cross_entropy(x, w, torch.zeros(4096).long(), reduction="sum").backward()
        expected = 4096 * (torch.full((8,), 1 / 8) - torch.eye(8)[0])
        assert torch.equal(w.grad[:, 0].float(), expected)

    @pytest.mark.parametrize("reduction", ["mean", "none"])
    def test_float16_gradients_survive_until_the_loss_scale(self, implementation, reduction):
        """p / N rounds to zero in float16 unless the upstream factor comes before rounding."""
        tensors = CONTRACT.make(torch.float16, {"names": NAMES}, 0, 300, 500, 8)
        target, factor = draw_target(300, 500, 1.0), 2.0**14
        tensors["input"] *= 0.002
        tensors["linear_weight"].requires_grad_()
        exact = {name: x.detach().double().requires_grad_() for name, x in tensors.items()}
        wanted = torch.autograd.grad(reference(**exact, target=target), exact["linear_weight"])[0]
        assert float(wanted.abs().median()) < torch.finfo(torch.float16).tiny / 16
        loss = linear_cross_entropy(**tensors, target=target, reduction=reduction).mean()
        gradient = torch.autograd.grad(factor * loss, tensors["linear_weight"])[0]
        assert (gradient.double() / factor - wanted).norm() < 2e-2 * wanted.norm()

    def test_autocast_casts_mixed_dtypes(self, implementation):
        tensors = CONTRACT.make(torch.float32, {"names": NAMES})
        target = draw_target(7, 11, 0.7)
        half = tensors | {n: tensors[n].bfloat16() for n in NAMES[:2]}
        mixed = tensors | {"input": half["input"]}
        expected = linear_cross_entropy(**half, target=target)
        with torch.autocast("cpu", torch.bfloat16):
            assert torch.equal(linear_cross_entropy(**mixed, target=target), expected)
            double = {name: x.double() for name, x in tensors.items()}
            assert linear_cross_entropy(**double, target=target).dtype is torch.float64
        with pytest.raises(TypeError, match="linear_weight must have the dtype of input, bfloat16"):
            linear_cross_entropy(**mixed, target=target)

    def test_bias_and_weight_of_any_dtype(self, implementation):
        tensors = CONTRACT.make(torch.bfloat16, {"names": NAMES})
        target, weight = draw_target(7, 11, 0.7), class_weights(11, torch.bfloat16)
        tensors["linear_bias"] = tensors["linear_bias"].half().requires_grad_()
        loss = linear_cross_entropy(**tensors, target=target, weight=weight)
        loss.backward()
        assert loss.dtype is torch.float32
        assert tensors["linear_bias"].grad.dtype is torch.float16


@pytest.mark.parametrize("soft", [False, True])
def test_memory_stays_within_the_tiles(soft, monkeypatch):
    """Half as many logits as rows times classes are never alive at once."""
    monkeypatch.setattr(chunked, "BUDGET_MIB", 0.05)
    x, w = torch.randn(200, 4, requires_grad=True), torch.randn(700, 4, requires_grad=True)
    target = torch.rand(200, 700) if soft else draw_target(200, 700, 1.0)
    sizes = []
    create = chunked.logits_tile
    monkeypatch.setattr(
        chunked, "logits_tile", lambda *args: sizes.append((tile := create(*args)).numel()) or tile
    )
    with sslkernels.backend("chunked"):
        linear_cross_entropy(x, w, target).backward()
    assert sum(sizes) == 2 * 200 * 700 and 4 * max(sizes) <= 0.05 * 2**20
