"""nt_xent: the definition, drawn shapes, and what others got wrong."""

from __future__ import annotations

import math
import warnings

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import sslkernels
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.losses.nt_xent import reference
from sslkernels.similarity import chunked
from tests import rounding
from tests.losses.test_nt_xent_contract import TestNTXent as Contract

CONTRACT = Contract()
PLAIN = {"normalize": True, "decoupled": False}


def views(rows, features, dtype=torch.float32, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, rows, features, generator=generator).to(dtype).unbind()


def by_hand(z1, z2, temperature, decoupled):
    """The papers' formulas, one number at a time."""
    z = [[float(x) for x in row] for row in torch.cat([z1, z2])]
    z = [[x / math.hypot(*row) for x in row] for row in z]
    n = len(z1)
    losses = []
    for i, row in enumerate(z):
        positive = (i + n) % (2 * n)
        s = [sum(a * b for a, b in zip(row, other, strict=True)) / temperature for other in z]
        out = {i, positive} if decoupled else {i}
        total = sum(math.exp(x) for j, x in enumerate(s) if j not in out)
        losses.append(math.log(total) - s[positive])
    return losses


@pytest.mark.parametrize("decoupled", [False, True])
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
def test_reference_is_the_formula(reduction, decoupled):
    z1, z2 = views(4, 3, torch.float64)
    losses = torch.tensor(by_hand(z1, z2, 0.3, decoupled), dtype=torch.float64)
    expected = losses if reduction == "none" else getattr(losses, reduction)()
    actual = reference(z1, z2, 0.3, reduction=reduction, decoupled=decoupled)
    assert torch.allclose(actual, expected, rtol=1e-12)


class TestDrawn:
    @settings(max_examples=120)
    @given(
        rows=st.integers(1, 70),
        features=st.sampled_from([1, 3, 17, 31, 32, 64, 128, 513]),
        dtype=st.sampled_from(FLOAT_DTYPES),
        log_temperature=st.floats(math.log(0.01), math.log(10)),
        reduction=st.sampled_from(["mean", "sum", "none"]),
        normalize=st.booleans(),
        decoupled=st.booleans(),
        layout=st.sampled_from(["contiguous", "transposed", "sliced"]),
        seed=st.integers(0, 2**31),
    )
    def test_value_and_gradients(
        self,
        implementation,
        rows,
        features,
        dtype,
        log_temperature,
        reduction,
        normalize,
        decoupled,
        layout,
        seed,
    ):
        tensors = CONTRACT.make(dtype, PLAIN, seed, rows, features, math.exp(log_temperature))
        for name in ("z1", "z2"):
            if layout == "transposed":
                tensors[name] = tensors[name].t().contiguous().t()
            elif layout == "sliced":
                tensors[name] = torch.cat([tensors[name], tensors[name]], 1)[:, :features]
        variant = {
            "reduction": reduction,
            "normalize": normalize,
            "decoupled": decoupled and rows > 1,
        }
        CONTRACT.check(tensors, variant, seed)


@pytest.mark.parametrize("rows", [1, 2, 7, 8, 16, 31, 32, 33, 63, 64, 65, 127, 128, 129, 200])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tail_blocks(implementation, rows, dtype):
    """Sizes around every block edge; what lies behind the tail must not count."""
    CONTRACT.check(CONTRACT.make(dtype, PLAIN, 3, rows, 64, 0.1), PLAIN | {"reduction": "mean"})


@pytest.mark.parametrize("features", [1, 2, 15, 16, 17, 31, 33, 48, 63, 65, 96, 127, 160, 257])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_tail_features(implementation, features, dtype):
    CONTRACT.check(CONTRACT.make(dtype, PLAIN, 3, 40, features, 0.2), PLAIN | {"reduction": "none"})


@pytest.mark.parametrize("rows", [521, pytest.param(2049, marks=pytest.mark.slow)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_batches_of_many_blocks(implementation, rows, dtype, reduction):
    CONTRACT.check(CONTRACT.make(dtype, PLAIN, 3, rows, 128, 0.1), PLAIN | {"reduction": reduction})


@pytest.mark.parametrize("precision", ["highest", "high", "medium"])
@pytest.mark.parametrize("features", [32, 128, 512])
def test_float32_matmul_precision(implementation, precision, features):
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        CONTRACT.check(
            CONTRACT.make(torch.float32, PLAIN, 3, 96, features, 0.1), PLAIN | {"reduction": "mean"}
        )
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("temperature", [0.01, 0.012, 0.0125, 0.02, 0.023, 0.05, 1.0, 10.0])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_temperature_neither_underflows_nor_overflows(implementation, temperature, dtype):
    """exp(1 / 0.01) is beyond float32, and exp(-200) below it."""
    z1, z2 = views(33, 64, dtype)
    for left, right in [(z1, z2), (z1, z1 + 0.01 * z2), (z1, -z1)]:
        scalar = torch.tensor(temperature, dtype=torch.float64 if dtype.itemsize == 8 else None)
        tensors = {"z1": left, "z2": right, "temperature": scalar}
        CONTRACT.check(tensors, PLAIN | {"reduction": "none"})


@pytest.mark.parametrize("length", [1e-3, 30.0, 1e3])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
def test_rows_far_from_unit_norm(implementation, length, dtype):
    """Without normalisation the largest logit is not 1 / temperature."""
    tensors = CONTRACT.make(dtype, PLAIN, 2, 20, 16, 0.5)
    tensors["z1"], tensors["z2"] = length * tensors["z1"], tensors["z2"]
    CONTRACT.check(tensors, {"reduction": "none", "normalize": False, "decoupled": False})


@pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
def test_rows_of_any_length_normalise(implementation, dtype):
    tensors = CONTRACT.make(dtype, PLAIN, 2, 20, 16, 0.5)
    lengths = torch.logspace(-2, 2, 20).to(dtype)[:, None]
    tensors["z1"], tensors["z2"] = lengths * tensors["z1"], tensors["z2"]
    CONTRACT.check(tensors, PLAIN | {"reduction": "mean"})


def test_zero_row_normalises_like_torch(implementation):
    tensors = CONTRACT.make(torch.float32, PLAIN, 2, 6, 8)
    tensors["z1"][2] = 0.0
    CONTRACT.check(tensors, PLAIN | {"reduction": "mean"})


def test_single_pair_has_nothing_to_lose(implementation):
    z1, z2 = views(1, 5)
    z1.requires_grad_()
    loss = sslkernels.nt_xent(z1, z2, 0.1)
    loss.backward()
    assert loss.abs() < 1e-5
    assert z1.grad.abs().max() < 1e-4


def test_collapsed_rows(implementation):
    """Every row the same: the loss is log(2N - 1), the gradient zero."""
    row = torch.randn(64, generator=torch.Generator().manual_seed(0))
    z1, z2 = row.expand(20, 64).clone().requires_grad_(), row.expand(20, 64)
    loss = sslkernels.nt_xent(z1, z2, 0.1)
    loss.backward()
    assert abs(loss.item() - math.log(39)) < 1e-5
    assert z1.grad.abs().max() < 1e-5


def test_low_precision_logits_stay_float32(implementation):
    """With bfloat16 logits the loss is off by up to 2 percent; rounding the operands is 10 x less.

    The definition in bfloat16 shows that the inputs can tell.
    """
    z1, z2 = views(128, 64, torch.bfloat16)
    z2 = z1 + 0.3 * z2
    exact = reference(z1.double(), z2.double(), 0.05, reduction="none")
    ours = sslkernels.nt_xent(z1, z2, 0.05, reduction="none")
    eager = reference(z1, z2, 0.05, reduction="none")
    with torch.autocast("cpu", torch.bfloat16):
        cast = sslkernels.nt_xent(z1.float(), z2.float(), 0.05, reduction="none")
    eager_error = (eager.double() - exact).abs().mean()
    assert ours.dtype is cast.dtype is torch.float32
    assert (ours - exact).abs().mean() < eager_error / 2
    assert (cast - exact).abs().mean() < eager_error / 2


@pytest.mark.parametrize("reduction", ["mean", "none"])
def test_float16_gradients_survive_until_the_loss_scale(implementation, reduction):
    """p / N rounds to zero in float16 unless the upstream factor is applied before rounding."""
    z1, z2 = views(300, 8, torch.float16)
    z1 = (100 * z1).requires_grad_()
    factor = 2.0**14
    exact = z1.detach().double().requires_grad_()
    (wanted,) = torch.autograd.grad(reference(exact, z2.double(), 5.0), exact)
    assert float(wanted.abs().median()) < torch.finfo(torch.float16).tiny / 16
    loss = sslkernels.nt_xent(z1, z2, 5.0, reduction=reduction).mean()
    (gradient,) = torch.autograd.grad(factor * loss, z1)
    error = (gradient.double() / factor - wanted).norm() / wanted.norm()
    assert error < 2e-2


def test_mixed_dtypes_under_autocast(implementation):
    z1, z2 = views(8, 16)
    with torch.autocast("cpu", torch.bfloat16):
        mixed = sslkernels.nt_xent(z1, z2.bfloat16())
        cast = sslkernels.nt_xent(z1.bfloat16(), z2.bfloat16())
        double = sslkernels.nt_xent(z1.double(), z2.double())
    assert torch.equal(mixed, cast)
    assert double.dtype is torch.float64


def test_autocast_off_inside(implementation):
    z1, z2 = views(8, 16)
    with torch.autocast("cpu", torch.bfloat16), torch.autocast("cpu", enabled=False):
        assert torch.equal(sslkernels.nt_xent(z1, z2), sslkernels.nt_xent(z1, z2))
        assert sslkernels.nt_xent(z1, z2).dtype is torch.float32


def test_precision_and_backend_are_those_of_the_forward(implementation):
    """The backward runs outside the `with` block of the forward."""
    z1, z2 = views(16, 8)
    z1.requires_grad_()
    loss = sslkernels.nt_xent(z1, z2)
    (inside,) = torch.autograd.grad(loss, z1, retain_graph=True)
    with sslkernels.backend("reference"):
        (outside,) = torch.autograd.grad(loss, z1)
    assert torch.equal(inside, outside)


def test_temperature_of_one_element_and_other_dtype(implementation):
    z1, z2 = views(6, 4)
    expected = sslkernels.nt_xent(z1, z2, 0.25)
    for dtype in FLOAT_DTYPES:
        temperature = torch.tensor([0.25], dtype=dtype, requires_grad=True)
        loss = sslkernels.nt_xent(z1, z2, temperature)
        loss.backward()
        assert torch.equal(loss, expected)
        assert temperature.grad.shape == (1,) and temperature.grad.dtype is dtype


def test_float_temperature_keeps_float64_precision(implementation):
    z1, z2 = views(6, 4, torch.float64)
    expected = reference(z1, z2, 0.07)
    assert torch.allclose(sslkernels.nt_xent(z1, z2, 0.07), expected, rtol=1e-14, atol=1e-14)


def test_fake_tensors(implementation):
    with FakeTensorMode():
        z = torch.empty(8, 4, requires_grad=True)
        temperature = torch.empty((), requires_grad=True)
        sslkernels.nt_xent(z, z, temperature).backward()
        assert z.grad.shape == (8, 4) and temperature.grad.shape == ()
        assert sslkernels.nt_xent(z, z, reduction="none").shape == (16,)


class TestAccuracy:
    def test_known_ranks(self, implementation):
        z1 = torch.eye(4)
        z2 = torch.eye(4).roll(1, 0)
        z2[0] = z1[0]
        _, accuracy = sslkernels.nt_xent(z1, z2, return_accuracy=True)
        # Only pair 0 lies together, but column 1 of z2 equals row 0 too: a tie is no hit.
        assert accuracy.item() == expected_accuracy(z1, z2)

    @pytest.mark.parametrize("budget", [0.001, 64.0])
    def test_against_a_sort(self, implementation, budget, monkeypatch):
        monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
        z1, noise = views(150, 4)
        z2 = z1 + 0.5 * noise
        loss, accuracy = sslkernels.nt_xent(z1.requires_grad_(), z2, return_accuracy=True)
        assert not accuracy.requires_grad and loss.requires_grad
        assert 0.02 < accuracy.item() < 0.98
        assert accuracy.item() == pytest.approx(expected_accuracy(z1.detach(), z2), abs=0.01)

    def test_extremes(self, implementation):
        z1, _ = views(20, 16)
        assert sslkernels.nt_xent(z1, z1, return_accuracy=True)[1] == 1.0
        assert sslkernels.nt_xent(z1, -z1, return_accuracy=True)[1] == 0.0
        nan = torch.full_like(z1, float("nan"))
        assert sslkernels.nt_xent(nan, nan, return_accuracy=True)[1] == 0.0

    def test_collapse_is_no_success(self, implementation):
        ones = torch.ones(16, 8)
        assert sslkernels.nt_xent(ones, ones, return_accuracy=True)[1] == 0.0

    def test_compiles(self, implementation):
        z1, z2 = views(16, 8)
        torch._dynamo.reset()
        function = torch.compile(
            lambda a, b: sslkernels.nt_xent(a, b, return_accuracy=True),
            fullgraph=True,
            backend="aot_eager",
        )
        for left, right in zip(
            function(z1, z2), sslkernels.nt_xent(z1, z2, return_accuracy=True), strict=True
        ):
            assert torch.allclose(left, right)

    def test_opcheck(self):
        keys = torch.cat(views(5, 3))
        operator = torch.ops.sslkernels_chunked.contrastive_accuracy.default
        torch.library.opcheck(operator, (keys, 0, 10))
        torch.library.opcheck(operator, (keys, 4, 6))


def expected_accuracy(z1, z2):
    z = torch.nn.functional.normalize(torch.cat([z1, z2]).double(), dim=1)
    n = len(z1)
    s = z @ z.T
    hits = 0
    for i in range(2 * n):
        positive = (i + n) % (2 * n)
        rivals = [s[i, j] for j in range(2 * n) if j not in (i, positive)]
        hits += all(s[i, positive] > rival for rival in rivals)
    return hits / (2 * n)


class TestModule:
    def test_equals_the_function(self):
        z1, z2 = views(8, 4)
        module = sslkernels.nn.NTXentLoss(0.2, normalize=False, reduction="sum", decoupled=True)
        expected = sslkernels.nt_xent(z1, z2, 0.2, normalize=False, reduction="sum", decoupled=True)
        assert torch.equal(module(z1, z2), expected)
        assert not list(module.parameters())
        assert "temperature=0.2" in repr(module)

    def test_learnable_temperature(self):
        z1, z2 = views(8, 4)
        module = sslkernels.nn.NTXentLoss(0.2, learnable=True)
        loss = module(z1, z2)
        loss.backward()
        assert torch.allclose(loss, sslkernels.nt_xent(z1, z2, 0.2), rtol=1e-5)
        assert module.log_temperature.grad.abs() > 0
        assert list(module.state_dict()) == ["log_temperature"]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert "temperature=0.2, learnable=True" in repr(module)

    @pytest.mark.parametrize("options", [{"temperature": 0.0}, {"reduction": "max"}])
    def test_bad_options(self, options):
        with pytest.raises(ValueError, match=next(iter(options))):
            sslkernels.nn.NTXentLoss(**options)


class TestCompile:
    def test_shapes_and_temperatures_change(self, implementation):
        torch._dynamo.reset()
        function = torch.compile(
            lambda a, b, t: sslkernels.nt_xent(a, b, t), fullgraph=True, backend="aot_eager"
        )
        for rows, temperature in [(4, 0.5), (6, 0.5), (9, 0.1), (16, 0.07)]:
            z1, z2 = views(rows, 8)
            expected = sslkernels.nt_xent(z1, z2, temperature)
            assert torch.allclose(function(z1, z2, temperature), expected)

    def test_backend_is_read_at_every_call(self):
        torch._dynamo.reset()
        z1, z2 = views(8, 4)
        function = torch.compile(
            lambda a, b: sslkernels.nt_xent(a, b), fullgraph=True, backend="aot_eager"
        )
        function(z1, z2)
        with (
            sslkernels.backend("triton"),
            pytest.raises(Exception, match="the tensor is on cpu"),
        ):
            function(z1, z2)
        function(z1, z2)

    def test_backend_inside_the_compiled_function(self):
        torch._dynamo.reset()

        def function(a, b):
            with sslkernels.backend("reference"):
                inside = sslkernels.nt_xent(a, b)
            return inside, sslkernels.backends._chosen_in_trace is None

        z1, z2 = views(8, 4)
        graphs = []

        def capture(graph, _):
            graphs.append(str(graph.graph))
            return graph.forward

        inside, restored = torch.compile(function, fullgraph=True, backend=capture)(z1, z2)
        assert torch.allclose(inside, sslkernels.nt_xent(z1, z2))
        assert restored and "matmul" in graphs[0]
        assert "autograd_function_apply" not in graphs[0]

    @pytest.mark.parametrize("precision", ["highest", "medium"])
    def test_precision_is_read_at_every_call(self, implementation, precision):
        torch._dynamo.reset()
        z1, z2 = views(32, 64)
        function = torch.compile(
            lambda a, b: sslkernels.nt_xent(a, b, 0.05), fullgraph=True, backend="aot_eager"
        )
        function(z1, z2)
        before = torch.get_float32_matmul_precision()
        try:
            torch.set_float32_matmul_precision(precision)
            assert torch.allclose(function(z1, z2), sslkernels.nt_xent(z1, z2, 0.05), rtol=1e-6)
        finally:
            torch.set_float32_matmul_precision(before)

    @pytest.mark.slow
    def test_inductor(self, implementation):
        torch._dynamo.reset()
        z1, z2 = (z.requires_grad_() for z in views(16, 32))
        expected = torch.autograd.grad(sslkernels.nt_xent(2 * z1, z2.tanh()), (z1, z2))
        function = torch.compile(lambda a, b: sslkernels.nt_xent(2 * a, b.tanh()), fullgraph=True)
        actual = torch.autograd.grad(function(z1, z2), (z1, z2))
        for left, right in zip(actual, expected, strict=True):
            assert torch.allclose(left, right, rtol=1e-5, atol=1e-6)

    @pytest.mark.parametrize("strict", [False, True])
    def test_export_with_dynamic_rows(self, implementation, strict):
        class Module(torch.nn.Module):
            def forward(self, a, b):
                return sslkernels.nt_xent(a, b, 0.2)

        rows = torch.export.Dim("rows", min=2)
        program = torch.export.export(
            Module(), views(8, 4), dynamic_shapes=({0: rows}, {0: rows}), strict=strict
        )
        z1, z2 = views(13, 4)
        assert torch.allclose(program.module()(z1, z2), sslkernels.nt_xent(z1, z2, 0.2))


@pytest.mark.slow
def test_more_than_2_to_the_31_logits(fused):
    """Rows in tight clusters whose loss is known; 2N = 65536 has 4.3e9 logits."""
    n, clusters, temperature = 32768, 16, 0.05  # and few features
    z = torch.eye(clusters).repeat(n // clusters, 1)
    z1 = z.clone().requires_grad_()
    loss = sslkernels.nt_xent(z1, z, temperature)
    loss.backward()
    near = 2 * n / clusters - 1
    far = 2 * n - 2 * n / clusters
    expected = math.log(near + far * math.exp(-1 / temperature))
    assert loss.item() == pytest.approx(expected, rel=1e-5)
    assert z1.grad[-1].isfinite().all() and z1.grad.abs().max() < 1e-5


def test_the_tolerance_is_not_vacuous():
    """The bound that the tests allow stays far below the values that it bounds."""
    tensors = CONTRACT.make(torch.float32, PLAIN, 0, 64, 128, 0.1)
    exact = {name: x.double() for name, x in tensors.items()}
    rows, gradients = rounding.nt_xent(torch.float32, torch.ones(128).double(), **exact, **PLAIN)
    assert float(rows.max()) < 1e-3
    assert float((gradients["z1"] / exact["z1"].abs().mean()).max()) < 1e-1
