"""Debiased and hardness-weighted negatives against the papers' code, on drawn shapes, at edges."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sslkernels import hard_negative_nt_xent, info_nce, nn, nt_xent
from sslkernels.checks import FLOAT_DTYPES
from sslkernels.losses import hard_negatives
from sslkernels.losses.info_nce import reference
from tests.losses.contrastive import draw_views
from tests.losses.test_reweighted_contract import TestHardNegativeNTXent as NTXentContract
from tests.losses.test_reweighted_contract import TestReweightedInfoNCE as InfoNCEContract

SIZES = {
    "dtype": st.sampled_from(FLOAT_DTYPES),
    "rows": st.integers(2, 30),
    "features": st.sampled_from([3, 17, 130]),
    "seed": st.integers(0, 2**31),
}
OPTIONS = {
    "reduction": st.sampled_from(["mean", "sum", "none"]),
    "beta": st.sampled_from([0.0, 0.5, 2.0]),
    "tau_plus": st.sampled_from([0.0, 0.01, 0.3]),
}


def papers_loss(out_1, out_2, tau_plus, beta, temperature, estimator):
    """`criterion` of the code published with arXiv 2010.04592, without the device."""
    batch = out_1.shape[0]
    out = torch.cat([out_1, out_2])
    neg = torch.exp(torch.mm(out, out.t()) / temperature)
    mask = torch.ones((batch, 2 * batch), dtype=torch.bool)
    for i in range(batch):
        mask[i, i] = mask[i, i + batch] = 0
    neg = neg.masked_select(torch.cat([mask, mask])).view(2 * batch, -1)
    pos = torch.exp(torch.sum(out_1 * out_2, dim=-1) / temperature)
    pos = torch.cat([pos, pos])
    n = batch * 2 - 2
    if estimator == "hard":
        imp = (beta * neg.log()).exp()
        reweight_neg = (imp * neg).sum(dim=-1) / imp.mean(dim=-1)
        ng = (-tau_plus * n * pos + reweight_neg) / (1 - tau_plus)
        ng = torch.clamp(ng, min=n * np.e ** (-1 / temperature))
    else:
        ng = neg.sum(dim=-1)
    return (-torch.log(pos / (pos + ng))).mean()


@pytest.mark.parametrize("beta", [0.0, 0.5, 2.0])
@pytest.mark.parametrize("tau_plus", [0.0, 0.1, 0.6])
def test_definition_is_the_papers(beta, tau_plus):
    x = draw_views(torch.float64, ("z1", "z2"), 3, 8, 5)
    x = {name: z.requires_grad_() for name, z in x.items()}
    unit = [torch.nn.functional.normalize(z, dim=1) for z in x.values()]
    expected = papers_loss(*unit, tau_plus, beta, 0.5, "hard")
    actual = hard_negatives.reference(**x, temperature=0.5, beta=beta, tau_plus=tau_plus)
    assert actual.item() == pytest.approx(expected.item(), rel=1e-12)
    for left, right in zip(
        torch.autograd.grad(actual, list(x.values())),
        torch.autograd.grad(expected, list(x.values())),
        strict=True,
    ):
        assert torch.allclose(left, right, atol=1e-12)


def test_definition_of_info_nce_by_hand():
    """From loops over Python's floats, each row with negatives of its own and of the batch."""
    x = draw_views(torch.float64, ("q", "p"), 5, 4, 3)
    own = draw_views(torch.float64, ("n",), 6, 12, 3)["n"].view(4, 3, 3)
    ids, own_ids = [1, 2, 1, 3], [[1, 5, 2], [5, 5, 2], [5, 6, 7], [3, 3, 4]]
    beta, tau, t = 0.7, 0.2, 0.4
    cosine = torch.nn.functional.cosine_similarity
    expected = []
    for i in range(4):
        s = [cosine(x["q"][i], x["p"][j], 0).item() / t for j in range(4) if ids[j] != ids[i]]
        s += [
            cosine(x["q"][i], own[i, j], 0).item() / t for j in range(3) if own_ids[i][j] != ids[i]
        ]
        positive = math.exp(cosine(x["q"][i], x["p"][i], 0).item() / t)
        mean = sum(math.exp((1 + beta) * v) for v in s) / sum(math.exp(beta * v) for v in s)
        g = max((len(s) * mean - tau * len(s) * positive) / (1 - tau), len(s) * math.exp(-1 / t))
        expected.append(math.log(1 + g / positive))
    actual = reference(
        x["q"],
        x["p"],
        own,
        temperature=t,
        reduction="none",
        in_batch=True,
        ids=torch.tensor(ids),
        negative_ids=torch.tensor(own_ids),
        beta=beta,
        tau_plus=tau,
    )
    assert torch.allclose(actual, torch.tensor(expected, dtype=torch.float64), rtol=1e-12)


class TestDrawnNTXent:
    op = "hard_negative_nt_xent"

    @settings(max_examples=50)
    @given(**SIZES, **OPTIONS)
    def test_value_and_gradients(self, implementation, dtype, rows, features, seed, **variant):
        contract = NTXentContract()
        contract.check(contract.make(dtype, variant, seed, rows, features), variant)

    def test_without_weights_it_is_nt_xent(self, implementation):
        z1, z2 = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()
        loss = hard_negative_nt_xent(z1, z2, 0.2, beta=0.0, tau_plus=0.0)
        assert torch.allclose(loss, nt_xent(z1, z2, 0.2))

    @pytest.mark.parametrize("temperature", [0.01, 0.002])
    def test_tiny_temperature(self, implementation, temperature):
        """exp(1 / T) is beyond float32, or beyond float64."""
        z1, z2 = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0)).unbind()
        z1.requires_grad_()
        loss = hard_negative_nt_xent(z1, z2, temperature, beta=1.0, tau_plus=0.1)
        loss.backward()
        assert loss.isfinite() and z1.grad.isfinite().all() and z1.grad.abs().max() > 0


class TestDrawnInfoNCE:
    op = "info_nce"

    @settings(max_examples=60)
    @given(
        **SIZES,
        **OPTIONS,
        kind=st.sampled_from(["batch", "queue", "own"]),
        negatives=st.integers(1, 40),
        in_batch=st.booleans(),
    )
    def test_value_and_gradients(
        self, implementation, dtype, rows, features, seed, negatives, **variant
    ):
        contract = InfoNCEContract()
        contract.check(contract.make(dtype, variant, seed, rows, features, negatives), variant)

    def test_a_row_alone_in_the_batch(self, implementation):
        q = torch.randn(1, 3, requires_grad=True)
        loss = info_nce(q, torch.randn(1, 3), beta=1.0, tau_plus=0.1)
        loss.backward()
        assert loss == 0.0 and torch.equal(q.grad, torch.zeros(1, 3))


class TestIds:
    op = "logsumexp_excluding"

    @pytest.mark.parametrize("weights", [{}, {"beta": 1.0}, {"tau_plus": 0.1}])
    @pytest.mark.parametrize("kind", ["batch", "queue", "own", "own in batch"])
    def test_a_row_without_negatives_costs_nothing(self, implementation, weights, kind):
        x = torch.randn(4, 4, 3, generator=torch.Generator().manual_seed(0))
        q, p, shared = x[0].requires_grad_(), x[1], x[2]
        ids = torch.tensor([0, 0, 0, 0])
        options = {"ids": ids, "reduction": "none", "in_batch": kind == "own in batch"}
        if kind == "batch":
            loss = info_nce(q, p, **options, **weights)
        else:
            negatives = shared if kind == "queue" else x[:, :2]
            negative_ids = ids if kind == "queue" else torch.zeros(4, 2).long()
            loss = info_nce(q, p, negatives, negative_ids=negative_ids, **options, **weights)
        loss.sum().backward()
        assert torch.equal(loss, torch.zeros(4)) and torch.equal(q.grad, torch.zeros(4, 3))

    def test_own_negatives_are_shared_ones_where_they_are_equal(self, implementation):
        q, p, shared = torch.randn(3, 5, 4, generator=torch.Generator().manual_seed(0)).unbind()
        own = shared.expand(5, 5, 4)
        ids = torch.tensor([0, 1, 2, 1, 5])
        for weights in ({}, {"beta": 1.0, "tau_plus": 0.1}):
            for options in ({}, {"in_batch": True}):
                expected = info_nce(q, p, shared, **weights, **options)
                assert torch.allclose(info_nce(q, p, own, **weights, **options), expected)
                left = info_nce(q, p, own, ids=ids, negative_ids=ids.expand(5, 5), **options)
                right = info_nce(q, p, shared, ids=ids, negative_ids=ids, **options)
                assert torch.allclose(left, right)


class TestAccuracy:
    op = "info_nce"

    @pytest.mark.parametrize("kind", ["batch", "queue", "both", "own", "own in batch"])
    @pytest.mark.parametrize("with_ids", [False, True])
    def test_counts_rows(self, implementation, kind, with_ids):
        if with_ids and implementation == "cpu":
            pytest.skip("cpu: logsumexp_excluding has no C++ kernel")
        generator = torch.Generator().manual_seed(4)
        q, p, shared = torch.randn(3, 300, 4, generator=generator).unbind()
        p = q + 0.3 * p
        own = torch.randn(300, 3, 4, generator=generator)
        ids = torch.randint(0, 90, (300,), generator=generator)
        negatives = {"batch": None, "queue": shared[:280], "both": shared[:280]}.get(kind, own)
        options = {"in_batch": kind in ("both", "own in batch")}
        if with_ids:
            options["ids"] = ids
        if with_ids and negatives is not None:
            shape = negatives.shape[:-1]
            options["negative_ids"] = torch.randint(0, 90, shape, generator=generator)
        if kind in ("batch", "both"):
            options["bias"] = torch.randn(300 if kind == "batch" else 580, generator=generator)
        loss, accuracy = info_nce(q, p, negatives, return_accuracy=True, **options)
        assert torch.equal(loss, info_nce(q, p, negatives, **options))
        # A row is a hit where its own positive is left as the likeliest key.
        rows = 0
        for i in range(300):
            keys, logit_bias = [], []
            for j in range(300):
                clash = with_ids and ids[j] == ids[i]
                if j != i and not clash and (negatives is None or options["in_batch"]):
                    keys.append(p[j])
                    logit_bias.append(j)
            if negatives is not None:
                mine = negatives[i] if negatives.dim() == 3 else negatives
                for j in range(len(mine)):
                    theirs = options["negative_ids"] if with_ids else None
                    if (
                        theirs is not None
                        and (theirs[i] if theirs.dim() == 2 else theirs)[j] == ids[i]
                    ):
                        continue
                    keys.append(mine[j])
                    logit_bias.append(300 + j)
            bias = options.get("bias", torch.zeros(580))
            cosines = torch.nn.functional.cosine_similarity(q[i], torch.stack(keys), dim=1) / 0.1
            own_logit = torch.nn.functional.cosine_similarity(q[i], p[i], dim=0) / 0.1 + bias[i]
            rows += bool(own_logit > (cosines + bias[logit_bias]).max())
        assert accuracy.item() == pytest.approx(rows / 300) and 0 < rows < 300

    @pytest.mark.parametrize("kind", ["batch", "queue", "own"])
    def test_a_collapsed_encoder_scores_nothing(self, implementation, kind):
        """Each key ties with the positive."""
        x = torch.randn(1, 33, generator=torch.Generator().manual_seed(0)).expand(70, 33)
        negatives = {"batch": None, "queue": x, "own": x[:, None].expand(70, 5, 33)}[kind]
        assert info_nce(x, x, negatives, return_accuracy=True)[1] == 0.0

    def test_takes_no_gradient_and_compiles(self):
        q, p = torch.randn(2, 6, 5).unbind()
        function = torch.compile(
            lambda q, p: info_nce(q, p, return_accuracy=True), fullgraph=True, backend="aot_eager"
        )
        loss, accuracy = function(q.requires_grad_(), p)
        assert loss.requires_grad and not accuracy.requires_grad


class TestModules:
    op = "info_nce"
    x = torch.randn(2, 6, 5, generator=torch.Generator().manual_seed(0))

    def test_options_arrive(self):
        (a, b), options = self.x, {"beta": 0.7, "tau_plus": 0.2}
        module = nn.InfoNCELoss(0.3, **options)
        assert torch.equal(module(a, b), info_nce(a, b, temperature=0.3, **options))
        module = nn.HardNegativeNTXentLoss(0.3, learnable=True, **options)
        loss = module(a, b)
        assert torch.allclose(loss, hard_negative_nt_xent(a, b, 0.3, **options))
        loss.backward()
        assert module.log_temperature.grad != 0.0
        assert "beta=0.7, tau_plus=0.2" in repr(module) and "beta=0.7" in repr(
            nn.InfoNCELoss(beta=0.7)
        )
