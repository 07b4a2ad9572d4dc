"""The heads beside test_contrastive_errors.py: bad input is told by its name."""

from __future__ import annotations

import math

import pytest
import torch

import sslkernels
from sslkernels import clip_loss, info_nce, nn, siglip_loss
from tests.losses.test_contrastive_errors import PAIR, TEMPERATURE, k, x
from tests.losses.test_contrastive_errors import named as named_pair

own = torch.ones(4, 2, 3)
WEIGHTS = [
    ({"beta": -1.0}, ValueError, "beta must be at least 0 and finite, got -1.0"),
    ({"beta": math.nan}, ValueError, "beta must be at least 0 and finite, got nan"),
    ({"beta": x}, TypeError, "beta must be a float, got Tensor"),
    ({"tau_plus": 1.0}, ValueError, "tau_plus must be below 1, got 1.0"),
    ({"tau_plus": -0.1}, ValueError, r"tau_plus must be in \[0.0, 1.0\], got -0.1"),
]
OWN = [
    ({"negatives": own[:3]}, ValueError, r"negatives must have shape \[4, K, 3\].*got \[3, 2, 3\]"),
    ({"negatives": own[:, :0]}, ValueError, "negatives must have shape .* K at least 1"),
    ({"negatives": own[..., :2]}, ValueError, r"negatives must have shape .*got \[4, 2, 2\]"),
    ({"negatives": own.half()}, TypeError, "negatives must have the dtype of query, float32"),
    ({"negatives": own.long()}, TypeError, "negatives must be one of float64"),
    ({"negatives": own, "bias": x[:, 0]}, ValueError, "bias must be None with negatives of each"),
    ({"beta": 1.0, "bias": x[:, 0]}, ValueError, "bias must be None with beta"),
    ({"tau_plus": 0.1, "bias": x[:, 0]}, ValueError, "bias must be None with tau_plus"),
    (
        {"negatives": own, "ids": torch.arange(4), "negative_ids": torch.arange(4)},
        ValueError,
        r"negative_ids must have shape \[4, 2\], got \[4\]",
    ),
]
NCE = [
    ({"noise": k[:, :2]}, ValueError, r"noise must have shape \[n, 3\].*got \[6, 2\]"),
    ({"noise": own[:3]}, ValueError, r"noise must have shape \[4, K, 3\]"),
    ({"noise": k.double()}, TypeError, "noise must have the dtype of query"),
    ({"scale": 0.0}, ValueError, "scale must be positive and finite, got 0.0"),
    ({"scale": torch.tensor(1e3).exp()}, ValueError, "scale must be positive .*got inf"),
    ({"reduction": "avg"}, ValueError, "reduction must be one of"),
    ({"noise_log_prob": k[:, 0]}, ValueError, "positive_log_prob must be given where noise_log"),
    ({"positive_log_prob": x[:, 0]}, ValueError, "noise_log_prob must be given where positive_l"),
    (
        {"positive_log_prob": x[:, 0], "noise_log_prob": x[:, 0]},
        ValueError,
        r"noise_log_prob must have shape \[6\], got \[4\]",
    ),
    (
        {"positive_log_prob": x[:2, 0], "noise_log_prob": k[:, 0]},
        ValueError,
        r"positive_log_prob must have shape \[4\], got \[2\]",
    ),
]


def named(arguments, message, first, second):
    """Only where a case is of the two matrices `a` and `b`."""
    if not {"a", "b"} & {*arguments}:
        return arguments, message
    return named_pair(arguments, message, first, second)


@pytest.mark.parametrize(("arguments", "error", "message"), [*WEIGHTS, *OWN])
def test_info_nce(arguments, error, message):
    with pytest.raises(error, match="^info_nce: .*" + message):
        info_nce(**({"query": x, "positive": x} | arguments))


@pytest.mark.parametrize(("arguments", "error", "message"), [*PAIR, *NCE])
def test_nce(arguments, error, message):
    arguments, message = named(arguments, message, "query", "positive")
    with pytest.raises(error, match="^nce_loss: .*" + message):
        sslkernels.nce_loss(**({"query": x, "positive": x, "noise": k} | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *PAIR,
        *TEMPERATURE,
        *WEIGHTS,
        ({"z1": x[:1], "z2": x[:1]}, ValueError, "z1 and z2 must have at least 2 rows, got 1"),
    ],
)
def test_hard_negative_nt_xent(arguments, error, message):
    arguments, message = named(arguments, message, "z1", "z2")
    with pytest.raises(error, match="^hard_negative_nt_xent: .*" + message):
        sslkernels.hard_negative_nt_xent(**({"z1": x, "z2": x} | arguments))


@pytest.mark.parametrize("head", ["barlow_twins_loss", "vicreg_loss"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *PAIR,
        ({"a": x[:1], "b": x[:1]}, ValueError, "a and b must have at least 2 rows, got 1"),
        ({"eps": -1.0}, ValueError, "eps must be at least 0 and finite, got -1.0"),
        ({"eps": "0"}, TypeError, "eps must be a float, got str"),
    ],
)
def test_decorrelation(head, arguments, error, message):
    arguments, message = named(arguments, message, "z1", "z2")
    with pytest.raises(error, match=f"^{head}: .*" + message):
        getattr(sslkernels, head)(**({"z1": x, "z2": x} | arguments))


@pytest.mark.parametrize("head", ["byol_loss", "simsiam_loss"])
@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *PAIR,
        ({"reduction": "avg"}, ValueError, "reduction must be one of"),
        ({"swapped_target": x}, ValueError, "swapped_prediction must be given"),
        ({"swapped_prediction": x}, ValueError, "swapped_target must be given"),
        (
            {"swapped_prediction": x, "swapped_target": x[:3]},
            ValueError,
            "swapped_target must have the shape of prediction",
        ),
    ],
)
def test_predictions(head, arguments, error, message):
    arguments, message = named(arguments, message, "prediction", "target")
    with pytest.raises(error, match=f"^{head}: .*" + message):
        getattr(sslkernels, head)(**({"prediction": x, "target": x} | arguments))


@pytest.mark.parametrize(
    ("module", "arguments", "error", "message"),
    [
        (nn.InfoNCELoss, {"beta": -1.0}, ValueError, "beta must be at least 0"),
        (nn.HardNegativeNTXentLoss, {"tau_plus": 1.0}, ValueError, "tau_plus must be below 1"),
        (nn.NTXentLoss, {"sigma": 0.0}, ValueError, "sigma must be positive and finite"),
        (nn.NCELoss, {"scale": 0.0}, ValueError, "scale must be positive and finite"),
        (nn.BYOLLoss, {"reduction": "avg"}, ValueError, "reduction must be one of"),
        (nn.BarlowTwinsLoss, {"redundancy": -1.0}, ValueError, "redundancy must be at least 0"),
        (nn.VICRegLoss, {"eps": "0"}, TypeError, "eps must be a float, got str"),
    ],
)
def test_modules(module, arguments, error, message):
    with pytest.raises(error, match=f"^{module.__name__}: {message}"):
        module(**arguments)


@pytest.mark.parametrize("kind", [nn.CLIPLoss, nn.SigLIPLoss])
def test_scale_whose_exponential_is_infinite(kind):
    """Held back by max_scale; without it the losses tell."""
    module = kind()
    module.logit_scale.data.fill_(1e3)
    loss = module(torch.eye(4), torch.eye(4))
    loss.backward()
    assert module.scale.item() == pytest.approx(100.0, rel=1e-4) and loss.isfinite()
    for head in (clip_loss, siglip_loss):
        with pytest.raises(ValueError, match="logit_scale must be positive and finite, got inf"):
            head(x, x, torch.tensor(1e3).exp(), logit_bias=-10.0)


def test_scale_that_overflows_in_a_compiled_step_shows():
    """Where reading it is not free, what comes of it is no number."""
    compiled = torch.compile(clip_loss, fullgraph=True, backend="aot_eager")
    z = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
    assert not compiled(z, z, torch.tensor(1e3).exp()).isfinite()
