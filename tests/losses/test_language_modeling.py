"""The losses of BERT and GPT, and the module that holds the output layer."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional as F

from sslkernels import (
    causal_lm_loss,
    linear_cross_entropy,
    masked_lm_loss,
    next_sentence_loss,
    nn,
)
from sslkernels.checks import FLOAT_DTYPES

OPTIONS = {"label_smoothing": 0.1, "z_loss": 0.01, "softcap": 3.0}


def draw(batch=2, time=9, features=5, classes=13, masked=0.4):
    """Hidden states, weight, bias (leaves, float64) and labels, some of them -100."""
    generator = torch.Generator().manual_seed(0)
    shapes = ((batch, time, features), (classes, features), (classes,))
    leaves = [torch.randn(s, generator=generator).double().requires_grad_() for s in shapes]
    labels = torch.randint(0, classes, (batch, time), generator=generator)
    ignored = torch.rand(batch, time, generator=generator) >= masked
    return *leaves, labels.masked_fill(ignored, -100)


def assert_same(actual, expected, leaves):
    assert torch.allclose(actual, expected, rtol=1e-12)
    wanted = torch.autograd.grad(expected, leaves)
    for left, right in zip(torch.autograd.grad(actual, leaves), wanted, strict=True):
        assert torch.allclose(left, right, rtol=1e-10, atol=1e-14)


class TestMasked:
    op = "masked_lm_loss"

    def test_is_the_dense_loss_of_the_masked_tokens(self, implementation):
        hidden, weight, bias, labels = draw()
        logits = F.linear(hidden, weight, bias)[labels != -100]
        expected = F.cross_entropy(logits, labels[labels != -100])
        assert_same(
            masked_lm_loss(hidden, weight, labels, bias=bias), expected, (hidden, weight, bias)
        )

    @pytest.mark.parametrize("ignore_index", [-100, 0])
    def test_hands_its_options_on(self, implementation, ignore_index):
        hidden, weight, bias, labels = draw()
        labels = labels.masked_fill(labels == -100, ignore_index)
        options = OPTIONS | {"ignore_index": ignore_index, "denominator": 3.0}
        loss, terms = masked_lm_loss(
            hidden, weight, labels, bias=bias, return_terms=True, **options
        )
        expected, wanted = linear_cross_entropy(
            hidden, weight, labels, linear_bias=bias, return_terms=True, **options
        )
        assert torch.equal(loss, expected) and torch.equal(terms.correct, wanted.correct)
        assert torch.equal(terms.lse, wanted.lse) and terms.lse.shape == labels.shape

    def test_tied_weight_gets_both_gradients(self, implementation):
        _, weight, _, labels = draw()
        tokens = labels.clamp_min(0)
        dense = F.cross_entropy((weight[tokens] @ weight.T).flatten(0, 1), labels.flatten())
        assert_same(masked_lm_loss(weight[tokens], weight, labels), dense, [weight])


class TestCausal:
    op = "causal_lm_loss"

    def test_position_predicts_the_next_token(self, implementation):
        """What transformers does: shift both, flatten both."""
        hidden, weight, bias, labels = draw(masked=0.8)
        before = labels.clone()
        logits = F.linear(hidden, weight, bias)[:, :-1].flatten(0, 1)
        expected = F.cross_entropy(logits, labels[:, 1:].flatten())
        loss = causal_lm_loss(hidden, weight, labels, bias=bias)
        assert torch.equal(labels, before)
        assert_same(loss, expected, (hidden, weight, bias))

    def test_hands_its_options_on(self, implementation):
        hidden, weight, bias, labels = draw(masked=0.8)
        options = OPTIONS | {"denominator": torch.tensor(5)}
        loss, terms = causal_lm_loss(
            hidden, weight, labels, bias=bias, return_terms=True, **options
        )
        following = torch.cat([labels[:, 1:], torch.full((2, 1), -100)], 1)
        expected, wanted = linear_cross_entropy(
            hidden, weight, following, linear_bias=bias, return_terms=True, **options
        )
        assert torch.equal(loss, expected) and torch.equal(terms.lse, wanted.lse)
        assert torch.equal(terms.lse[:, -1], torch.zeros(2).double())

    @pytest.mark.parametrize("shape", [(2, 1), (2, 0), (0, 4), (1,)])
    def test_nothing_follows(self, implementation, shape):
        hidden = torch.randn(*shape, 3, requires_grad=True)
        loss = causal_lm_loss(hidden, torch.randn(7, 3), torch.zeros(shape).long())
        loss.backward()
        assert loss == 0.0 and torch.equal(hidden.grad, torch.zeros_like(hidden))

    def test_ignored_token_that_is_a_class(self, implementation):
        """The padding 0 as ignore_index, also where the shift comes from."""
        hidden, weight, bias, labels = draw()
        labels = labels.masked_fill(labels == -100, 0)
        logits = F.linear(hidden, weight, bias)[:, :-1].flatten(0, 1)
        expected = F.cross_entropy(logits, labels[:, 1:].flatten(), ignore_index=0)
        loss = causal_lm_loss(hidden, weight, labels, bias=bias, ignore_index=0)
        assert_same(loss, expected, (hidden, weight, bias))


class TestNextSentence:
    @pytest.mark.parametrize("dtype", FLOAT_DTYPES, ids=str)
    def test_is_cross_entropy(self, dtype):
        logits, labels = torch.randn(6, 2).to(dtype), torch.tensor([0, 1, 1, 0, 1, 0])
        loss = next_sentence_loss(logits, labels)
        assert loss.dtype is (torch.float64 if dtype is torch.float64 else torch.float32)
        assert torch.allclose(loss, F.cross_entropy(logits.to(loss.dtype), labels))

    def test_no_rows(self):
        assert next_sentence_loss(torch.zeros(0, 2), torch.zeros(0).long()) == 0.0

    @pytest.mark.parametrize(
        ("logits", "labels", "error", "message"),
        [
            (torch.zeros(3, 3), [0, 1, 0], ValueError, r"logits must have shape \[N, 2\]"),
            (torch.zeros(3, 2), [0, 1], ValueError, r"labels must have shape \[3\], got \[2\]"),
            (torch.zeros(3, 2), [0, 1, 2], ValueError, r"labels must be in \[0, 2\), got 2"),
            (torch.zeros(3, 2), [0, 1, -100], ValueError, r"labels must be in \[0, 2\), got -100"),
            (torch.zeros(3, 2), [0.0, 1, 1], TypeError, "labels must hold integers, got float32"),
        ],
    )
    def test_bad_input(self, logits, labels, error, message):
        with pytest.raises(error, match="^next_sentence_loss: " + message):
            next_sentence_loss(logits, torch.tensor(labels))


class TestModule:
    op = "linear_cross_entropy"

    @pytest.mark.parametrize("bias", [False, True])
    def test_takes_the_state_of_torchs_module(self, bias):
        weight = torch.rand(7)
        theirs = torch.nn.LinearCrossEntropyLoss(
            5, 7, bias=bias, weight=weight, label_smoothing=0.1
        )
        ours = nn.LinearCrossEntropyLoss(
            5, 7, bias=bias, weight=weight.clone(), label_smoothing=0.1
        )
        assert len(list(ours.parameters())) == 1 + bias
        ours.load_state_dict(theirs.state_dict())
        x, target = torch.randn(6, 5), torch.randint(0, 7, (6,))
        assert torch.allclose(ours(x, target), theirs(x, target))

    def test_tied(self, implementation):
        module = nn.LinearCrossEntropyLoss(5, 7, bias=True, tied=True, z_loss=0.1, softcap=4.0)
        assert [name for name, _ in module.named_parameters()] == ["linear_bias"]
        module.linear_bias.data.normal_()
        embedding = torch.nn.Embedding(7, 5)
        x, target = torch.randn(2, 3, 5), torch.randint(0, 7, (2, 3))
        loss, terms = module(
            x, target, linear_weight=embedding.weight, denominator=4.0, return_terms=True
        )
        expected = linear_cross_entropy(
            x,
            embedding.weight,
            target,
            linear_bias=module.linear_bias,
            z_loss=0.1,
            softcap=4.0,
            denominator=4.0,
        )
        assert torch.equal(loss, expected) and terms.lse.shape == (2, 3)
        loss.backward()
        assert embedding.weight.grad.abs().sum() > 0 and module.linear_bias.grad.abs().sum() > 0

    def test_repr_says_what_is_set(self):
        text = repr(nn.LinearCrossEntropyLoss(5, 7, label_smoothing=0.1, softcap=30.0))
        assert "label_smoothing=0.1" in text and "softcap=30.0" in text and "tied=False" in text
