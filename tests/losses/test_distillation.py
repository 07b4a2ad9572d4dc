"""distillation_loss: the contract, torch's own divergence, edges and bad input."""

from __future__ import annotations

import math
from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import sslkernels
from sslkernels import distillation_loss
from sslkernels.checks import FLOAT_DTYPES, accumulate_dtype
from sslkernels.losses.distillation import reference
from sslkernels.similarity import chunked
from tests import rounding
from tests.contract import OpContract
from tests.losses.test_linear_cross_entropy_contract import TARGET, draw_linear

NAMES = {"input": "hidden", "linear_weight": "weight", "linear_bias": "bias"}


def draw_teacher(rows, classes, features, dtype, seed=9):
    """Hidden states, weight and bias that are exact in every dtype: a cast changes nothing."""
    generator = torch.Generator().manual_seed(seed)
    shapes = ((rows, features), (classes, features), (classes,))
    return [(torch.randint(-32, 33, s, generator=generator) / 32).to(dtype) for s in shapes]


class TestDistillation(OpContract):
    op = "distillation_loss"
    variants: ClassVar = {
        "mean": {"names": ("input", "linear_weight")},
        "sum bias": {"names": tuple(NAMES), "reduction": "sum", "temperature": 2.5},
        "none labels": {
            "names": tuple(NAMES),
            "reduction": "none",
            "temperature": 0.7,
            "labels": TARGET,
        },
    }

    def make(self, dtype, variant, seed=0, rows=7, classes=11, features=33):
        drawn = draw_linear(dtype, variant["names"], seed, rows, classes, features)
        return {NAMES[name]: x for name, x in drawn.items()}

    def teacher(self, tensors, variant):
        rows, classes = tensors["hidden"].shape[0], tensors["weight"].shape[0]
        dtype = accumulate_dtype(tensors["weight"].dtype)
        if "teacher" in variant:
            return {name: x.to(dtype) for name, x in variant["teacher"].items()}
        hidden, weight, bias = TEACHER
        assert (rows, classes) == (hidden.shape[0], weight.shape[0])
        names = ("teacher_hidden", "teacher_weight", "teacher_bias")
        return {n: x.to(dtype) for n, x in zip(names, (hidden, weight, bias), strict=True)}

    def call(self, tensors, variant):
        options = {n: x for n, x in variant.items() if n not in ("names", "teacher")}
        return distillation_loss(**tensors, **self.teacher(tensors, variant), **options)

    def reference(self, tensors, variant):
        temperature = variant.get("temperature", 1.0)
        rows = reference(**tensors, **self.teacher(tensors, variant), temperature=temperature)
        counted = self.counted(rows, variant)
        rows = rows.masked_fill(~counted, 0.0)
        reduction = variant.get("reduction", "mean")
        if reduction == "none":
            return rows
        return rows.sum() / (max(1, int(counted.sum())) if reduction == "mean" else 1)

    def counted(self, rows, variant):
        return variant.get("labels", torch.zeros(rows.shape[0])) != -100

    def tolerances(self, dtype, tensors, variant, upstream):
        t = variant.get("temperature", 1.0)
        teacher = self.teacher(tensors, variant)
        logits = F.linear(*teacher.values()) / t
        counted = self.counted(logits, variant)
        reduction = variant.get("reduction", "mean")
        divisor = max(1, int(counted.sum())) if reduction == "mean" else 1
        # As the cross entropy of the teacher's probabilities, less their entropy.
        target = logits.softmax(1) * counted[:, None]
        bias = tensors.get("bias")
        value, gradients = rounding.cross_entropy(
            dtype,
            upstream.expand(len(logits)) * t / divisor,
            tensors["hidden"],
            tensors["weight"] / t,
            None if bias is None else bias / t,
            target,
        )
        # The teacher's logits have the same kind of error.
        entropy, _ = rounding.cross_entropy(
            dtype,
            upstream.expand(len(logits)),
            teacher["teacher_hidden"],
            teacher["teacher_weight"] / t,
            teacher["teacher_bias"] / t,
            target,
        )
        value = t**2 * (value + entropy)
        if reduction != "none":
            value = value.sum() / divisor
        # Of s = <q, k / t>: dq = t^2 G k / t, dk = t^2 G q / t, and `upstream` had one t already.
        names = {"hidden": ("q", t), "weight": ("k", 1), "bias": ("bias", 1)}
        teacher_error = 1 + float(entropy.max())
        return value, {
            name: 2 * teacher_error * gradients[names[name][0]] * names[name][1] for name in tensors
        }

    def operators(self, namespace):
        if namespace is torch.ops.sslkernels:
            return []
        samples = []
        for dtype in (torch.float32, torch.bfloat16):
            x = self.make(dtype, self.variants["none labels"])
            teacher = self.teacher(x, {}).values()
            args = (*x.values(), *teacher, TARGET != -100, 0.7)
            divergence, *lse = namespace.row_divergence_forward(*args)
            samples.append((namespace.row_divergence_forward.default, args))
            backward = (torch.rand_like(divergence), *lse, *args)
            samples.append((namespace.row_divergence_backward.default, backward))
        return samples


TEACHER = draw_teacher(7, 11, 20, torch.float64)
CONTRACT = TestDistillation()


class TestDrawn:
    op = "distillation_loss"

    @settings(max_examples=80)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(1, 40),
        classes=st.sampled_from([1, 2, 9, 65]),
        features=st.sampled_from([1, 3, 17, 130]),
        teacher_features=st.sampled_from([1, 5, 64]),
        reduction=st.sampled_from(["mean", "sum", "none"]),
        temperature=st.floats(0.5, 10.0),
        counted=st.sampled_from([0.0, 0.3, 1.0]),
        with_bias=st.booleans(),
        seed=st.integers(0, 2**31),
    )
    def test_value_and_gradients(
        self,
        implementation,
        dtype,
        rows,
        classes,
        features,
        teacher_features,
        reduction,
        temperature,
        counted,
        with_bias,
        seed,
    ):
        hidden, weight, bias = draw_teacher(rows, classes, teacher_features, torch.float64, seed)
        generator = torch.Generator().manual_seed(seed)
        labels = torch.zeros(rows).long()
        labels[torch.rand(rows, generator=generator) >= counted] = -100
        variant = {
            "names": tuple(NAMES) if with_bias else tuple(NAMES)[:2],
            "reduction": reduction,
            "temperature": temperature,
            "labels": labels,
            "teacher": {
                "teacher_hidden": hidden,
                "teacher_weight": weight / teacher_features**0.5,
                "teacher_bias": bias,
            },
        }
        CONTRACT.check(CONTRACT.make(dtype, variant, seed, rows, classes, features), variant)


def test_reference_is_the_formula():
    tensors = CONTRACT.make(torch.float64, CONTRACT.variants["sum bias"])
    teacher = CONTRACT.teacher(tensors, {})
    student, other = F.linear(*tensors.values()) / 3.0, F.linear(*teacher.values()) / 3.0
    expected = 0.0
    for s, t in zip(student.tolist(), other.tolist(), strict=True):
        s_total, t_total = (sum(math.exp(v) for v in row) for row in (s, t))
        for a, b in zip(s, t, strict=True):
            p = math.exp(b) / t_total
            expected += 9.0 * p * (math.log(p) - a + math.log(s_total))
    total = reference(**tensors, **teacher, temperature=3.0).sum()
    assert total.item() == pytest.approx(expected, rel=1e-12)


class TestEdges:
    op = "distillation_loss"
    variant = CONTRACT.variants["none labels"]

    @pytest.mark.parametrize("budget", [0.0, 1e-4, 2e-3])
    @pytest.mark.parametrize("variant", list(CONTRACT.variants.values()), ids=CONTRACT.variants)
    def test_any_budget_gives_the_same(self, budget, variant, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        with sslkernels.backend("chunked"):
            CONTRACT.check(CONTRACT.make(torch.float32, variant), variant)

    def test_student_that_is_its_teacher(self, implementation):
        hidden, weight, bias = draw_teacher(7, 11, 20, torch.float32)
        hidden.requires_grad_()
        args = (hidden, weight, hidden, weight)
        loss = distillation_loss(*args, bias=bias, teacher_bias=bias, temperature=2.0)
        loss.backward()
        assert loss.abs() < 1e-6 and hidden.grad.abs().max() < 1e-6

    def test_teacher_has_no_gradient(self, implementation):
        tensors = CONTRACT.make(torch.float64, self.variant)
        teacher = {n: x.clone().requires_grad_() for n, x in CONTRACT.teacher(tensors, {}).items()}
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        distillation_loss(**leaves, **teacher).backward()
        assert all(x.grad is not None for x in leaves.values())
        assert all(x.grad is None for x in teacher.values())

    def test_classes_that_the_teacher_excludes(self, implementation):
        """A teacher's logit of -inf has probability 0 and adds nothing, rather than NaN."""
        tensors = CONTRACT.make(torch.float64, CONTRACT.variants["mean"])
        teacher = CONTRACT.teacher(tensors, {})
        teacher["teacher_bias"][:2] = float("-inf")
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        loss = distillation_loss(**leaves, **teacher)
        p = F.linear(*teacher.values()).softmax(1)
        entropy = -torch.special.entr(p).sum(1)
        cross = F.cross_entropy(F.linear(*leaves.values()), p, reduction="none")
        assert torch.allclose(loss, (entropy + cross).mean(), rtol=1e-12)
        wanted = torch.autograd.grad(cross.mean(), list(leaves.values()))
        for left, right in zip(
            torch.autograd.grad(loss, list(leaves.values())), wanted, strict=True
        ):
            assert torch.allclose(left, right, rtol=1e-10, atol=1e-14)

    @pytest.mark.parametrize("rows", [0, 7])
    def test_nothing_counts(self, implementation, rows):
        tensors = CONTRACT.make(torch.float32, self.variant, 0, rows)
        hidden, weight, _ = draw_teacher(rows, 11, 4, torch.float32)
        leaves = {name: x.requires_grad_() for name, x in tensors.items()}
        labels = torch.full((rows,), -100)
        loss = distillation_loss(
            **leaves, teacher_hidden=hidden, teacher_weight=weight, labels=labels
        )
        loss.backward()
        assert loss == 0.0
        assert all(torch.equal(x.grad, torch.zeros_like(x)) for x in leaves.values())

    def test_rows_that_do_not_count_are_nothing(self, implementation):
        tensors = CONTRACT.make(torch.float32, self.variant)
        clean = CONTRACT.run(tensors, self.variant)
        tensors["hidden"][TARGET == -100] = float("nan")
        dirty = CONTRACT.run(tensors, self.variant)
        assert all(torch.equal(clean[name], dirty[name]) for name in clean)

    def test_leading_dimensions_and_mixed_dtypes(self, implementation):
        """A teacher in bfloat16 for a student in float32."""
        tensors = CONTRACT.make(torch.float32, self.variant)
        teacher = CONTRACT.teacher(tensors, {})
        flat = distillation_loss(**tensors, **teacher, reduction="none")
        tensors["hidden"] = tensors["hidden"].reshape(1, 7, -1)
        teacher["teacher_hidden"] = teacher["teacher_hidden"].reshape(1, 7, -1)
        half = {name: x.bfloat16() for name, x in teacher.items()}
        loss = distillation_loss(**tensors, **half, reduction="none")
        assert loss.shape == (1, 7) and loss.dtype is torch.float32
        assert torch.allclose(loss[0], flat, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"hidden": torch.zeros(4, 3).int()}, TypeError, "hidden must be one of float64"),
        ({"weight": torch.zeros(5, 2)}, ValueError, r"weight must have shape \[n, 3\]"),
        ({"weight": torch.zeros(5, 3).double()}, TypeError, "weight must have the dtype of hidden"),
        ({"teacher_hidden": torch.zeros(3, 2)}, ValueError, "teacher_hidden must have the leading"),
        (
            {"teacher_weight": torch.zeros(5, 3)},
            ValueError,
            r"teacher_weight must have shape \[n, 2\]",
        ),
        (
            {"teacher_weight": torch.zeros(6, 2)},
            ValueError,
            "teacher_weight must have as many rows",
        ),
        (
            {"teacher_weight": torch.zeros(5, 2).half()},
            TypeError,
            "teacher_weight must have the dtype of teacher_hidden",
        ),
        ({"teacher_bias": torch.zeros(4)}, ValueError, r"teacher_bias must have shape \[5\]"),
        ({"temperature": 0.0}, ValueError, "temperature must be positive and finite, got 0.0"),
        ({"temperature": torch.ones(())}, TypeError, "temperature must be a float, got a tensor"),
        ({"temperature": 1e-40}, ValueError, "temperature must lie in .* float32 holds it and"),
        ({"ignore_index": None}, TypeError, "ignore_index must be an int, got NoneType"),
        ({"reduction": "batchmean"}, ValueError, "reduction must be one of mean, sum, none"),
        ({"labels": torch.zeros(3).long()}, ValueError, r"labels must have shape \[4\]"),
        ({"labels": torch.zeros(4)}, TypeError, "labels must hold integers, got float32"),
    ],
)
def test_bad_input(arguments, error, message):
    good = {
        "hidden": torch.zeros(4, 3),
        "weight": torch.zeros(5, 3),
        "teacher_hidden": torch.zeros(4, 2),
        "teacher_weight": torch.zeros(5, 2),
    }
    with pytest.raises(error, match="^distillation_loss: " + message):
        distillation_loss(**(good | arguments))
