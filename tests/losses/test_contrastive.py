"""The contrastive heads against their formulas, on drawn shapes, at their edges."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional as F

import sslkernels
from sslkernels import clip_loss, info_nce, nn, siglip_loss, supcon
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.losses import clip, siglip
from sslkernels.losses import info_nce as info_nce_module
from sslkernels.losses import supcon as supcon_module
from sslkernels.similarity import chunked
from tests.losses.contrastive import draw_views
from tests.losses.test_clip_contract import TestCLIP as CLIPContract
from tests.losses.test_clip_contract import TestSigLIP as SigLIPContract
from tests.losses.test_info_nce_contract import TestInfoNCE as InfoNCEContract
from tests.losses.test_info_nce_contract import TestInfoNCEWithIds as IdsContract
from tests.losses.test_supcon_contract import TestSupCon as SupConContract

SIZES = {
    "dtype": st.sampled_from(FLOAT_DTYPES),
    "rows": st.integers(1, 40),
    "features": st.sampled_from([1, 3, 17, 130]),
    "normalize": st.booleans(),
    "seed": st.integers(0, 2**31),
}
REDUCTIONS = st.sampled_from(["mean", "sum", "none"])


def dots(a, b):
    """Python's own cosines."""
    a, b = (F.normalize(x, dim=1).tolist() for x in (a, b))
    return [[math.fsum(u * v for u, v in zip(p, q, strict=True)) for q in b] for p in a]


class TestFormulas:
    """The definitions, from loops over Python's floats."""

    x = draw_views(torch.float64, ("a", "b"), 5, 6, 4)

    @pytest.mark.parametrize("in_batch", [False, True])
    def test_info_nce(self, in_batch):
        queue = draw_views(torch.float64, ("queue",), 6, 5, 4)["queue"]
        bias = torch.linspace(-1, 1, 11).double()
        ids, queue_ids = [3, 1, 3, 2, 1, 0], [1, 9, 3, 3, 8]
        s = dots(self.x["a"], torch.cat([self.x["b"], queue]))
        expected = []
        for i in range(6):
            logit = [s[i][j] / 0.3 + bias[j].item() for j in range(11)]
            keys = [6 + j for j in range(5) if queue_ids[j] != ids[i]]
            keys += [j for j in range(6) if in_batch and ids[j] != ids[i]]
            total = sum(math.exp(logit[j]) for j in [i, *keys])
            expected.append(math.log(total) - logit[i])
        options = {"ids": torch.tensor(ids), "negative_ids": torch.tensor(queue_ids)}
        options |= {"in_batch": in_batch, "bias": bias, "temperature": 0.3, "reduction": "none"}
        actual = info_nce_module.reference(self.x["a"], self.x["b"], queue, **options)
        assert torch.allclose(actual, torch.tensor(expected).double(), rtol=1e-6)

    def test_clip_and_siglip(self):
        s = [[3.0 * value - 1.0 for value in row] for row in dots(self.x["a"], self.x["b"])]
        both = pairs = 0.0
        for i in range(6):
            row = math.log(sum(math.exp(s[i][j]) for j in range(6)))
            column = math.log(sum(math.exp(s[j][i]) for j in range(6)))
            both += (row + column - 2 * s[i][i]) / 12
            for j in range(6):
                pairs += math.log1p(math.exp(-s[i][j] if i == j else s[i][j])) / 6
        arguments = (self.x["a"], self.x["b"], 3.0)
        assert clip.reference(*arguments, logit_bias=-1.0).item() == pytest.approx(both, rel=1e-12)
        assert siglip.reference(*arguments, -1.0).item() == pytest.approx(pairs, rel=1e-12)

    def test_supcon(self):
        z, labels = torch.cat(list(self.x.values())), [0, 1, 2, 0, 1, 7, 0, 1, 9, 2, 2, 0]
        s, rows = dots(z, z), []
        for i in range(12):
            others = [j for j in range(12) if j != i]
            log_total = math.log(sum(math.exp(s[i][j] / 0.3) for j in others))
            of_class = [j for j in others if labels[j] == labels[i]]
            losses = [log_total - s[i][j] / 0.3 for j in of_class]
            rows.append(sum(losses) / len(losses) if losses else 0.0)
        actual = supcon_module.reference(z, torch.tensor(labels), 0.3, reduction="none")
        assert torch.allclose(actual, torch.tensor(rows).double(), rtol=1e-6)
        mean = supcon_module.reference(z, torch.tensor(labels), 0.3)
        assert mean.item() == pytest.approx(sum(rows) / 10, rel=1e-12)


class TestDrawnInfoNCE:
    op = "info_nce"

    @settings(max_examples=60)
    @given(
        **SIZES,
        negatives=st.integers(0, 70),
        in_batch=st.booleans(),
        bias=st.booleans(),
        reduction=REDUCTIONS,
    )
    def test_value_and_gradients(self, implementation, dtype, rows, features, seed, **variant):
        contract = InfoNCEContract()
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)


class TestDrawnIds:
    op = "logsumexp_excluding"

    @settings(max_examples=60)
    @given(**SIZES, negatives=st.integers(0, 70), in_batch=st.booleans(), reduction=REDUCTIONS)
    def test_value_and_gradients(self, implementation, dtype, rows, features, seed, **variant):
        contract, generator = IdsContract(), torch.Generator().manual_seed(seed)
        variant["ids"] = torch.randint(-3, 9, (rows,), generator=generator)
        if variant["negatives"]:
            extra = (variant["negatives"],)
            variant["negative_ids"] = torch.randint(-3, 9, extra, generator=generator)
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)

    def test_tiles(self, implementation, monkeypatch):
        for budget in (0.0, 1e-4):
            monkeypatch.setattr(chunked, "BUDGET_MIB", budget)
            for variant in IdsContract.variants.values():
                contract = IdsContract()
                contract.check(contract.make(torch.float64, variant), variant)


class TestDrawnPairs:
    op = "clip_loss"

    @settings(max_examples=40)
    @given(**SIZES)
    def test_clip(self, implementation, dtype, rows, features, seed, normalize):
        variant = {"names": ("image", "text", "logit_scale"), "normalize": normalize}
        contract = CLIPContract()
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)


class TestDrawnSigLIP:
    op = "siglip_loss"

    @settings(max_examples=40)
    @given(**SIZES, budget=st.sampled_from([0.0, 1e-3, 64.0]))
    def test_siglip(self, implementation, dtype, rows, features, seed, normalize, budget):
        variant = SigLIPContract.variants["plain"] | {"normalize": normalize}
        contract = SigLIPContract()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(chunked, "BUDGET_MIB", budget)
            contract.check(contract.make(dtype, variant, seed, rows, features), variant)

    def test_both_ways_to_the_gradient_agree(self, fused):
        """Inside vmap the value comes alone, and its backward computes the gradients."""
        x = SigLIPContract().make(torch.float32, SigLIPContract.variants["plain"])
        image, text, scale, bias = x.values()
        plain = torch.func.grad(siglip_loss, argnums=(0, 1, 2, 3))(image, text, scale, bias)
        batched = torch.func.vmap(torch.func.grad(siglip_loss, argnums=(0, 1, 2, 3)))
        for left, right in zip(plain, batched(*(v[None] for v in x.values())), strict=True):
            assert torch.allclose(left, right[0], rtol=1e-6)


class TestDrawnSupCon:
    op = "supcon"

    @settings(max_examples=60)
    @given(**SIZES, classes=st.integers(1, 30), reduction=REDUCTIONS)
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, seed, classes, **variant
    ):
        rows += 1
        generator = torch.Generator().manual_seed(seed)
        variant["labels"] = torch.randint(0, classes, (rows,), generator=generator)
        contract = SupConContract()
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)

    @pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
    @pytest.mark.parametrize("rows", [1, 5])
    def test_no_anchor_has_a_positive(self, implementation, reduction, rows):
        z = torch.randn(rows, 3, requires_grad=True)
        loss = supcon(z, torch.arange(rows), reduction=reduction)
        loss.sum().backward()
        assert torch.equal(loss, torch.zeros_like(loss))
        assert torch.equal(z.grad, torch.zeros(rows, 3))


class TestEdges:
    op = "info_nce"

    def test_one_sample_in_the_batch(self, implementation):
        q = torch.randn(1, 5, requires_grad=True)
        for loss in (info_nce(q, q.detach()), clip_loss(q, q.detach(), 10.0)):
            (gradient,) = torch.autograd.grad(loss, q)
            assert loss.abs() < 1e-6 and gradient.abs().max() < 1e-6

    @pytest.mark.parametrize("temperature", [0.002, 0.01])
    def test_tiny_temperature(self, implementation, temperature):
        x = draw_views(torch.float32, ("q", "p", "n"), 3, 20, 16)
        q, p, n = (v.requires_grad_() for v in x.values())
        exact = [v.detach().double().requires_grad_() for v in (q, p, n)]
        wanted = torch.autograd.grad(
            info_nce_module.reference(*exact, temperature=temperature), exact
        )
        actual = torch.autograd.grad(info_nce(q, p, n, temperature=temperature), (q, p, n))
        for left, right in zip(actual, wanted, strict=True):
            assert torch.allclose(left.double(), right, rtol=1e-3, atol=1e-3 * right.abs().max())

    def test_all_ids_the_same(self):
        q = torch.randn(6, 3, requires_grad=True)
        loss = info_nce(q, torch.randn(6, 3), ids=torch.zeros(6).long())
        loss.backward()
        assert loss == 0.0 and torch.equal(q.grad, torch.zeros(6, 3))

    def test_bias_of_minus_infinity_takes_a_key_away(self, implementation):
        q, p, n = torch.randn(3, 4, 5).unbind()
        bias = torch.tensor([0.0] * 5 + [-math.inf] + [0.0] * 2)
        expected = info_nce(q, p, n[[0, 2, 3]])
        assert torch.allclose(info_nce(q, p, n, bias=bias), expected)

    def test_logit_bias_changes_nothing(self, implementation):
        image, text = torch.randn(2, 6, 5).unbind()
        bias = torch.tensor(-10.0, requires_grad=True)
        loss = clip_loss(image, text, 10.0, logit_bias=bias)
        loss.backward()
        assert torch.equal(loss, clip_loss(image, text, 10.0)) and bias.grad == 0.0


class TestModules:
    op = "info_nce"
    x = torch.randn(2, 6, 5)

    @pytest.mark.parametrize("learnable", [False, True])
    def test_temperatures(self, learnable):
        (a, b), labels = self.x, torch.tensor([0, 0, 1, 1, 2, 2])
        module = nn.InfoNCELoss(0.3, learnable=learnable, in_batch=True)
        assert torch.allclose(module(a, b), info_nce(a, b, temperature=0.3))
        expected = info_nce(a, b, self.x[0], temperature=0.3, in_batch=True)
        assert torch.allclose(module(a, b, self.x[0]), expected)
        module = nn.SupConLoss(0.3, learnable=learnable)
        loss = module(a, labels)
        assert torch.allclose(loss, supcon(a, labels, 0.3))
        if learnable:
            loss.backward()
            assert module.log_temperature.grad != 0.0

    @pytest.mark.parametrize("kind", [nn.CLIPLoss, nn.SigLIPLoss])
    def test_scale_has_a_limit_and_finds_back(self, kind):
        module = kind(50.0, max_scale=20.0)
        assert module.scale.item() == pytest.approx(20.0)
        loss = module(*self.x)
        loss.backward()
        assert loss.isfinite() and module.logit_scale.grad != 0.0
        assert {*module.state_dict()} - {"logit_bias"} == {"logit_scale"}

    def test_pairs(self):
        assert torch.allclose(nn.CLIPLoss(10.0)(*self.x), clip_loss(*self.x, 10.0))
        assert torch.allclose(nn.SigLIPLoss()(*self.x), siglip_loss(*self.x, 10.0, -10.0))


class TestMoCoQueue:
    op = "info_nce"

    def test_the_oldest_keys_go(self):
        queue, batches = nn.MoCoQueue(4, 7), torch.randn(4, 3, 4)
        before = queue.keys.clone()
        queue.enqueue(batches[0])
        assert torch.equal(queue.keys[3:], before[3:])
        for batch in batches[1:]:
            queue.enqueue(batch)
        kept = F.normalize(batches.flatten(0, 1), dim=1)[-7:]
        assert torch.allclose(queue.keys.roll(-int(queue.position), 0), kept)

    def test_state_dict(self):
        queue, other = nn.MoCoQueue(4, 7), nn.MoCoQueue(4, 7)
        queue.enqueue(torch.randn(5, 4))
        other.load_state_dict(queue.state_dict())
        for each in (queue, other):
            each.enqueue(torch.ones(4, 4))
        assert torch.equal(queue.keys, other.keys) and queue.position == other.position == 2

    def test_loss_and_gradient(self, implementation):
        queue, key = nn.MoCoQueue(4, 7, temperature=0.2), torch.randn(3, 4, requires_grad=True)
        query = torch.randn(3, 4, requires_grad=True)
        loss = queue(query, key)
        expected = info_nce(query, key, queue.keys, temperature=0.2)
        assert torch.allclose(loss, expected)
        loss.backward()
        assert key.grad is None and not queue.keys.requires_grad
        (wanted,) = torch.autograd.grad(expected, query)
        assert torch.allclose(query.grad, wanted, atol=1e-6)

    def test_keys_put_in_before_the_backward_do_not_matter(self, fused):
        """The gradient is that of the queue as the loss saw it."""
        queue, key = nn.MoCoQueue(4, 7), torch.randn(3, 4)
        query = torch.randn(3, 4, requires_grad=True)
        (expected,) = torch.autograd.grad(queue(query, key), query)
        loss = queue(query, key)
        queue.enqueue(key)
        (gradient,) = torch.autograd.grad(loss, query)
        assert torch.equal(gradient, expected)

    def test_under_autocast(self):
        queue = nn.MoCoQueue(4, 7, dtype=torch.bfloat16)
        with torch.autocast("cpu", torch.bfloat16):
            assert queue(torch.randn(3, 4), torch.randn(3, 4)).dtype is torch.float32


@pytest.mark.parametrize("head", ["info_nce", "siglip_loss", "supcon"])
def test_memory_stays_within_the_tiles(head, monkeypatch):
    monkeypatch.setattr(chunked, "BUDGET_MIB", 0.05)
    x = torch.randn(300, 4, requires_grad=True)
    call = {
        "info_nce": lambda: info_nce(x, x, ids=torch.arange(300) // 2),
        "siglip_loss": lambda: siglip_loss(x, x, 10.0, -10.0),
        "supcon": lambda: supcon(x, torch.arange(300) // 2),
    }[head]
    sizes = []
    create = chunked.logits_tile
    monkeypatch.setattr(
        chunked, "logits_tile", lambda *args: sizes.append((tile := create(*args)).numel()) or tile
    )
    with sslkernels.backend("chunked"):
        call().backward()
    assert sum(sizes) >= 300 * 300 and 4 * max(sizes) <= 0.05 * 2**20
