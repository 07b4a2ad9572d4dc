"""linear_cross_entropy, its module and the heads on it: bad input is told by its name."""

from __future__ import annotations

import math

import pytest
import torch

from sslkernels import causal_lm_loss, linear_cross_entropy, masked_lm_loss, nn

x, w, t = torch.zeros(4, 3), torch.zeros(5, 3), torch.zeros(4).long()
soft = torch.zeros(4, 5)

SHARED = [
    ({"ignore_index": -1, "target": t - 100}, ValueError, r"in \[0, 5\) or -1, got -100"),
    ({"label_smoothing": -0.1}, ValueError, r"label_smoothing must be in \[0.0, 1.0\], got -0.1"),
    ({"label_smoothing": 1.1}, ValueError, r"label_smoothing must be in \[0.0, 1.0\], got 1.1"),
    ({"label_smoothing": math.nan}, ValueError, "label_smoothing must be in .* got nan"),
    ({"label_smoothing": "a"}, TypeError, "label_smoothing must be a float, got str"),
    ({"z_loss": -1e-4}, ValueError, "z_loss must be at least 0 and finite, got -0.0001"),
    ({"z_loss": math.inf}, ValueError, "z_loss must be at least 0 and finite, got inf"),
    ({"softcap": -1.0}, ValueError, "softcap must be positive and finite, got -1.0"),
    ({"softcap": 1e-60}, ValueError, "softcap must lie in .* where float32 holds it and its"),
    ({"ignore_index": "pad"}, TypeError, "ignore_index must be an int, got str"),
    ({"ignore_index": 2**63}, ValueError, "ignore_index must lie in .* got 9223372036854775808"),
    ({"denominator": 1e-40}, ValueError, "denominator must lie in .* float32 .*got 1e-40"),
    ({"denominator": 0}, ValueError, "denominator must be positive and finite, got 0"),
    ({"denominator": torch.ones(2)}, ValueError, "denominator must have one element"),
    ({"denominator": "1"}, TypeError, "denominator must be a float or a tensor, got str"),
]

CASES = [
    *SHARED,
    ({"input": [0.0]}, TypeError, "input must be a torch.Tensor, got list"),
    ({"input": x.long()}, TypeError, "input must be one of float64.*got int64"),
    ({"input": x.to_sparse()}, TypeError, "input must be a dense tensor"),
    ({"input": torch.zeros(())}, ValueError, r"input must have shape \[..., features\].*got \[\]"),
    ({"input": x[:, :0]}, ValueError, "input must have shape .*at least one feature"),
    ({"linear_weight": w[:, :2]}, ValueError, r"linear_weight must have shape \[n, 3\].*\[5, 2\]"),
    ({"linear_weight": w[:0]}, ValueError, "linear_weight must have shape .* n at least 1"),
    ({"linear_weight": w[None]}, ValueError, "linear_weight must be 2-D"),
    ({"linear_weight": w.double()}, TypeError, "linear_weight must have the dtype of input"),
    ({"linear_weight": w.to("meta")}, ValueError, "linear_weight must be on the device of input"),
    ({"linear_bias": torch.zeros(4)}, ValueError, r"linear_bias must have shape \[5\], got \[4\]"),
    ({"linear_bias": torch.zeros(5).int()}, TypeError, "linear_bias must be one of float64"),
    ({"weight": torch.zeros(4)}, ValueError, r"weight must have shape \[5\], got \[4\]"),
    ({"weight": torch.zeros(5, requires_grad=True)}, ValueError, "weight has no gradient"),
    ({"reduction": "avg"}, ValueError, "reduction must be one of mean, sum, none, got 'avg'"),
    ({"reduction": "sum", "denominator": 2.0}, ValueError, "denominator is only for .*got 'sum'"),
    ({"target": 0}, TypeError, "target must be a torch.Tensor, got int"),
    ({"target": t[:3]}, ValueError, r"target must have shape \[4\], got \[3\]"),
    ({"target": t[:, None]}, ValueError, r"target must have shape \[4\], got \[4, 1\]"),
    ({"target": t.bool()}, TypeError, "target must hold integers, got bool"),
    ({"target": t + 5}, ValueError, r"target must be in \[0, 5\) or -100, got 5"),
    ({"target": t - 1}, ValueError, r"target must be in \[0, 5\) or -100, got -1"),
    ({"target": t.float()}, ValueError, r"target must have shape \[4, 5\] for class prob.*float32"),
    ({"target": soft[:, :4]}, ValueError, r"target must have shape \[4, 5\] .*got \[4, 4\]"),
    ({"target": soft.to("meta")}, ValueError, "target must be on the device of input"),
    ({"target": soft, "ignore_index": 0}, ValueError, "ignore_index is only for class indices"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), CASES)
def test_linear_cross_entropy(arguments, error, message):
    good = {"input": x, "linear_weight": w, "target": t}
    with pytest.raises(error, match="^linear_cross_entropy: .*" + message):
        linear_cross_entropy(**(good | arguments))


HEAD_CASES = [
    ({"hidden": x.long()}, TypeError, "hidden must be one of float64"),
    ({"weight": w[:, :2]}, ValueError, r"weight must have shape \[n, 3\]"),
    ({"bias": torch.zeros(4)}, ValueError, r"bias must have shape \[5\]"),
    ({"weight": w.double()}, TypeError, "weight must have the dtype of hidden"),
    ({"labels": t[:3]}, ValueError, r"labels must have shape \[4\], got \[3\]"),
    ({"labels": t + 7}, ValueError, r"labels must be in \[0, 5\) or -100, got 7"),
    ({"labels": soft}, TypeError, "labels must hold integers, got float32"),
]


@pytest.mark.parametrize("head", [masked_lm_loss, causal_lm_loss])
@pytest.mark.parametrize(("arguments", "error", "message"), [*SHARED, *HEAD_CASES])
def test_heads(head, arguments, error, message):
    arguments = {"labels" if n == "target" else n: value for n, value in arguments.items()}
    good = {"hidden": x, "weight": w, "labels": t}
    with pytest.raises(error, match=f"^{head.__name__}: .*" + message):
        head(**(good | arguments))


def test_causal_needs_a_time():
    with pytest.raises(ValueError, match=r"hidden must be \[..., time, features\], got \[3\]"):
        causal_lm_loss(x[0], w, t[0])


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"in_features": 0}, ValueError, "in_features must be at least 1, got 0"),
        ({"num_classes": 0}, ValueError, "num_classes must be at least 1, got 0"),
        ({"weight": torch.zeros(4)}, ValueError, r"weight must have shape \[5\]"),
        ({"reduction": "avg"}, ValueError, "reduction must be one of"),
        ({"label_smoothing": 2.0}, ValueError, "label_smoothing must be in"),
        ({"z_loss": -1.0}, ValueError, "z_loss must be at least 0"),
        ({"softcap": 0.0}, ValueError, "softcap must be positive"),
        ({"ignore_index": 0.5}, TypeError, "ignore_index must be an int, got float"),
        ({"num_classes": 5.0}, TypeError, "num_classes must be an int, got float"),
    ],
)
def test_module(arguments, error, message):
    with pytest.raises(error, match="^LinearCrossEntropyLoss: " + message):
        nn.LinearCrossEntropyLoss(**({"in_features": 3, "num_classes": 5} | arguments))


def test_module_and_its_weight():
    with pytest.raises(ValueError, match="linear_weight must be None when not tied"):
        nn.LinearCrossEntropyLoss(3, 5)(x, t, linear_weight=w)
    with pytest.raises(ValueError, match="linear_weight must be given when tied"):
        nn.LinearCrossEntropyLoss(3, 5, tied=True)(x, t)
