"""BYOL's, SimSiam's, Barlow Twins' and VICReg's losses, which have no matrix of logits."""

from __future__ import annotations

from typing import ClassVar

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import sslkernels
from sslkernels import barlow_twins_loss, byol_loss, nn, simsiam_loss, vicreg_loss
from sslkernels.checks import FLOAT_DTYPES
from tests import rounding
from tests.contract import OpContract
from tests.losses import contrastive


def byol(p, z):
    """The paper's: the squared distance of the unit rows."""
    return (F.normalize(p, dim=1) - F.normalize(z.detach(), dim=1)).square().sum(1).mean()


def simsiam(p, z):
    """Algorithm 1 of the paper, `D`."""
    p, z = F.normalize(p, dim=1), F.normalize(z.detach(), dim=1)
    return -(p * z).sum(1).mean()


def barlow_twins(z1, z2, redundancy=0.005, eps=1e-5):
    """Algorithm 1 of the paper, with the batch normalisation of the authors' code."""
    a, b = (F.batch_norm(z, None, None, training=True, eps=eps) for z in (z1, z2))
    c = a.T @ b / z1.shape[0]
    off = c - torch.diag(c.diagonal())
    return (c.diagonal() - 1).square().sum() + redundancy * off.square().sum()


def vicreg(z1, z2, invariance=25.0, variance=25.0, covariance=1.0, eps=1e-4):
    """Algorithm 1 of the paper."""
    n, d = z1.shape
    loss = invariance * F.mse_loss(z1, z2)
    for z in (z1, z2):
        loss = loss + variance / 2 * F.relu(1 - (z.var(0) + eps).sqrt()).mean()
        z = z - z.mean(0)
        c = z.T @ z / (n - 1)
        loss = loss + covariance * (c - torch.diag(c.diagonal())).square().sum() / d
    return loss


class _Plain(OpContract):
    """Autograd's own gradients: any order of derivative."""

    def make(self, dtype, variant, seed=0, rows=9, features=5):
        x = contrastive.draw_views(dtype, ("z1", "z2"), seed, rows, features)
        return {name: 2 * z for name, z in x.items()}

    def call(self, tensors, variant):
        return getattr(sslkernels, self.op)(*tensors.values(), **variant.get("options", {}))

    def reference(self, tensors, variant):
        return globals()[self.op.removesuffix("_loss")](
            *tensors.values(), **variant.get("options", {})
        )

    def tolerances(self, dtype, tensors, variant, upstream):
        """What the inputs are is exact; statistics and products are of the accumulation dtype."""
        z1, z2 = (z.detach().requires_grad_() for z in tensors.values())
        n, d = z1.shape
        value = self.reference({"z1": z1, "z2": z2}, variant)
        found = torch.autograd.grad(value, (z1, z2), allow_unused=True, materialize_grads=True)
        # Rows that differ little are far from their mean, next to which they are rounded.
        spread = min(float(z.var(0).min().clamp_min(1e-6).sqrt()) for z in tensors.values())
        size = max(float(z.abs().max()) for z in tensors.values())
        share = rounding.sum_error(dtype, n, d) * 8 * d * (1 + size / spread) ** 2
        largest = max(float(g.abs().max()) for g in found) + float(value.abs().detach()) / size
        return share * (1 + value.abs().detach()), {
            name: rounding.stored(share * largest + 0 * g, g.abs(), dtype) * upstream.abs()
            for name, g in zip(tensors, found, strict=True)
        }

    def operators(self, namespace):
        return []  # plain PyTorch

    def test_autocast_around_the_backward(self, implementation, variant):
        pytest.skip("autograd's own products in the backward are what autocast makes of them")

    def test_second_derivative_is_a_clear_error(self, implementation, variant):
        """There is one."""
        leaves = [x.requires_grad_() for x in self.make(torch.float64, variant).values()]
        names = list(self.make(torch.float64, variant))
        assert torch.autograd.gradgradcheck(self.total(variant, names), leaves, fast_mode=True)


class TestBarlowTwins(_Plain):
    op = "barlow_twins_loss"
    variants: ClassVar = {"plain": {}, "options": {"options": {"redundancy": 0.3, "eps": 0.1}}}


class TestVICReg(_Plain):
    op = "vicreg_loss"
    variants: ClassVar = {
        "plain": {},
        "options": {
            "options": {"invariance": 1.0, "variance": 3.0, "covariance": 10.0, "eps": 0.1}
        },
    }


class TestDrawn:
    op = "barlow_twins_loss"

    @settings(max_examples=60)
    @given(
        dtype=st.sampled_from(FLOAT_DTYPES),
        rows=st.integers(2, 30),
        features=st.sampled_from([1, 3, 17, 61]),
        seed=st.integers(0, 2**31),
    )
    @pytest.mark.parametrize("contract", [TestBarlowTwins, TestVICReg])
    def test_value_and_gradients(self, contract, dtype, rows, features, seed):
        """With fewer rows than features and with more: each has a product of its own."""
        contract, variant = contract(), contract.variants["options"]
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)

    @pytest.mark.parametrize(("rows", "features"), [(64, 16), (20, 96)])
    def test_lightly_agrees(self, rows, features):
        lightly = pytest.importorskip("lightly.loss")
        z1, z2 = torch.randn(2, rows, features, generator=torch.Generator().manual_seed(0)).unbind()
        z2 = (z1 + 0.5 * z2).requires_grad_()
        for ours, theirs in (
            (barlow_twins_loss, lightly.BarlowTwinsLoss()),
            (vicreg_loss, lightly.VICRegLoss()),
            (simsiam_loss, lightly.NegativeCosineSimilarity()),
        ):
            # SimSiam's second argument is a constant; theirs leaves that to the caller.
            pair = (z2, z1) if ours is simsiam_loss else (z1, z2)
            left, right = ours(*pair), theirs(*pair)
            assert torch.allclose(left, right, rtol=1e-5)
            (dl,), (dr,) = (torch.autograd.grad(x, z2) for x in (left, right))
            assert torch.allclose(dl, dr, rtol=1e-4, atol=1e-5 * dr.abs().max())

    def test_no_batch_times_batch_nor_feature_times_feature_more_than_needed(self):
        """The smaller of the two products is formed."""
        shapes = []

        class Watch(torch.utils._python_dispatch.TorchDispatchMode):
            def __torch_dispatch__(self, func, types, args=(), kwargs=None):
                out = func(*args, **(kwargs or {}))
                if func is torch.ops.aten.mm.default:
                    shapes.append(tuple(out.shape))
                return out

        with Watch():
            vicreg_loss(*torch.randn(2, 8, 50))
            barlow_twins_loss(*torch.randn(2, 8, 50))
            barlow_twins_loss(*torch.randn(2, 50, 8))
        assert shapes == [(8, 8)] * 4 + [(8, 8)] and torch.Size([50, 50]) not in shapes


class TestPredictions:
    op = "byol_loss"

    @pytest.mark.parametrize("head", ["byol", "simsiam"])
    @pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
    def test_definition(self, head, dtype):
        names = ("p1", "z2", "p2", "z1")
        x = contrastive.draw_views(dtype, names, 0, 12, 33)
        exact = {name: v.double().requires_grad_() for name, v in x.items()}
        x = {name: v.requires_grad_() for name, v in x.items()}
        function, definition = getattr(sslkernels, f"{head}_loss"), globals()[head]
        one_way = function(x["p1"], x["z2"])
        assert torch.allclose(one_way.double(), definition(exact["p1"], exact["z2"]), rtol=1e-5)
        loss = function(*x.values())
        expected = definition(exact["p1"], exact["z2"]) + definition(exact["p2"], exact["z1"])
        expected = expected if head == "byol" else expected / 2
        assert torch.allclose(loss.double(), expected, rtol=1e-5)
        loss.backward()
        expected.backward()
        for name in ("p1", "p2"):
            limit = 4 * torch.finfo(dtype).eps * exact[name].grad.abs().max() + 1e-12
            assert (x[name].grad.double() - exact[name].grad).abs().max() <= max(limit, 1e-7)
        assert x["z1"].grad is None and x["z2"].grad is None

    @pytest.mark.parametrize("function", [byol_loss, simsiam_loss])
    def test_reductions_compile_and_func(self, function):
        x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()
        rows = function(*x, reduction="none")
        assert rows.shape == (6,) and torch.allclose(rows.mean(), function(*x))
        assert torch.allclose(rows.sum(), function(*x, reduction="sum"))
        compiled = torch.compile(function, fullgraph=True, backend="aot_eager")
        assert torch.allclose(compiled(*x), function(*x))
        gradient = torch.func.vmap(torch.func.grad(function))(x[0][None], x[1][None])
        wanted = torch.func.grad(function)(x[0], x[1])
        assert torch.allclose(gradient[0], wanted)

    def test_autocast_stays_float32(self):
        x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()
        with torch.autocast("cpu", torch.bfloat16):
            for function in (byol_loss, simsiam_loss, barlow_twins_loss, vicreg_loss):
                assert function(*x).dtype is torch.float32


def test_modules():
    x = torch.randn(4, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()
    assert torch.equal(nn.BYOLLoss()(*x), byol_loss(*x))
    assert torch.equal(nn.SimSiamLoss(reduction="sum")(*x), simsiam_loss(*x, reduction="sum"))
    module = nn.BarlowTwinsLoss(redundancy=0.1)
    assert torch.equal(module(*x[:2]), barlow_twins_loss(*x[:2], redundancy=0.1))
    module = nn.VICRegLoss(covariance=3.0)
    assert torch.equal(module(*x[:2]), vicreg_loss(*x[:2], covariance=3.0))
    assert "covariance=3" in repr(module) and "redundancy=0.005" in repr(nn.BarlowTwinsLoss())
