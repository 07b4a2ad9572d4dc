"""The contrastive heads, their modules and the queue: bad input is told by its name."""

from __future__ import annotations

import math

import pytest
import torch

from sslkernels import clip_loss, info_nce, nn, siglip_loss, supcon

x, k, ids = torch.ones(4, 3), torch.ones(6, 3), torch.arange(4)

PAIR = [
    ({"a": [0.0]}, TypeError, "a must be a torch.Tensor, got list"),
    ({"a": x.long()}, TypeError, "a must be one of float64.*got int64"),
    ({"a": x[0]}, ValueError, r"a must be 2-D \[rows, features\], got \[3\]"),
    ({"b": x[:3]}, ValueError, r"b must have the shape of a, \[4, 3\], got \[3, 3\]"),
    ({"b": x[:, :2]}, ValueError, r"b must have the shape of a, \[4, 3\], got \[4, 2\]"),
    ({"a": x[:0], "b": x[:0]}, ValueError, "a and b must have at least one row"),
    ({"b": x.double()}, TypeError, "b must have the dtype of a, float32, got float64"),
    ({"b": x.to("meta")}, ValueError, "b must be on the device of a, cpu, got meta"),
]
TEMPERATURE = [
    ({"temperature": 0.0}, ValueError, "temperature must be positive and finite, got 0.0"),
    ({"temperature": torch.tensor(math.nan)}, ValueError, "temperature must be .* got nan"),
    ({"temperature": "1"}, TypeError, "temperature must be a float or a tensor, got str"),
    ({"reduction": "avg"}, ValueError, "reduction must be one of mean, sum, none, got 'avg'"),
]
INFO_NCE = [
    *TEMPERATURE,
    ({"negatives": k[:, :2]}, ValueError, r"negatives must have shape \[n, 3\].*got \[6, 2\]"),
    ({"negatives": k[:0]}, ValueError, "negatives must have shape .* n at least 1"),
    ({"negatives": k.half()}, TypeError, "negatives must have the dtype of query, float32"),
    ({"bias": torch.zeros(6)}, ValueError, r"bias must have shape \[4\], got \[6\]"),
    ({"bias": torch.zeros(4), "negatives": k}, ValueError, r"bias must have shape \[10\]"),
    ({"bias": ids}, TypeError, "bias must be one of float64"),
    ({"ids": ids[:3]}, ValueError, r"ids must have shape \[4\], got \[3\]"),
    ({"ids": x[:, 0]}, TypeError, "ids must hold integers, got float32"),
    ({"ids": ids, "negatives": k}, ValueError, "negative_ids must be given where ids and neg"),
    ({"negative_ids": ids, "negatives": k}, ValueError, "negative_ids goes with ids, which is N"),
    ({"ids": ids, "negative_ids": ids}, ValueError, "negative_ids goes with negatives"),
    (
        {"ids": ids, "negatives": k, "negative_ids": ids},
        ValueError,
        r"negative_ids must have shape \[6\], got \[4\]",
    ),
]
SCALE = [
    ({"logit_scale": -1.0}, ValueError, "logit_scale must be positive and finite, got -1.0"),
    ({"logit_scale": torch.tensor(1e3).exp()}, ValueError, "logit_scale must be .*got inf"),
    ({"logit_scale": torch.ones(2)}, ValueError, "logit_scale must have one element"),
    ({"logit_scale": 1e39}, ValueError, r"logit_scale must lie in .* float32 .*got 1e\+39"),
    ({"logit_bias": 1e39}, ValueError, r"logit_bias must be finite in float32, got 1e\+39"),
    ({"logit_bias": math.inf}, ValueError, "logit_bias must be finite in float32, got inf"),
    (
        {"logit_bias": torch.tensor(math.nan)},
        ValueError,
        "logit_bias must be finite in float32, got nan",
    ),
    ({"logit_bias": True}, TypeError, "logit_bias must be a float or a tensor, got bool"),
]


def named(arguments, message, first, second):
    """Cases say `a` and `b` for the two matrices."""
    names = {"a": first, "b": second}
    arguments = {names.get(name, name): value for name, value in arguments.items()}
    for short, name in names.items():
        message = message.replace(f"{short} and ", f"{name} and ")
        message = message.replace(f"{short} must", f"{name} must")
        message = message.replace(f" of {short},", f" of {name},")
    return arguments, message


@pytest.mark.parametrize(("arguments", "error", "message"), [*PAIR, *INFO_NCE])
def test_info_nce(arguments, error, message):
    arguments, message = named(arguments, message, "query", "positive")
    with pytest.raises(error, match="^info_nce: .*" + message):
        info_nce(**({"query": x, "positive": x} | arguments))


@pytest.mark.parametrize("head", [clip_loss, siglip_loss])
@pytest.mark.parametrize(("arguments", "error", "message"), [*PAIR, *SCALE])
def test_pairs(head, arguments, error, message):
    arguments, message = named(arguments, message, "image", "text")
    good = {"image": x, "text": x, "logit_scale": 10.0, "logit_bias": -10.0}
    with pytest.raises(error, match=f"^{head.__name__}: .*" + message):
        head(**(good | arguments))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        *TEMPERATURE,
        ({"z": x.long()}, TypeError, "z must be one of float64"),
        ({"z": x[0]}, ValueError, "z must be 2-D"),
        (
            {"z": x[:0], "labels": ids[:0]},
            ValueError,
            r"z must have at least one row, got \[0, 3\]",
        ),
        ({"labels": ids[:3]}, ValueError, r"labels must have shape \[4\], got \[3\]"),
        ({"labels": ids.float()}, TypeError, "labels must hold integers, got float32"),
        ({"labels": ids.to("meta")}, ValueError, "labels must be on the device of z"),
    ],
)
def test_supcon(arguments, error, message):
    with pytest.raises(error, match="^supcon: .*" + message):
        supcon(**({"z": x, "labels": ids} | arguments))


@pytest.mark.parametrize(
    ("module", "arguments", "error", "message"),
    [
        (nn.InfoNCELoss, {"temperature": 0.0}, ValueError, "temperature must be positive"),
        (nn.SupConLoss, {"reduction": "avg"}, ValueError, "reduction must be one of"),
        (nn.CLIPLoss, {"scale": -1.0}, ValueError, "scale must be positive and finite"),
        (nn.CLIPLoss, {"max_scale": 0.0}, ValueError, "max_scale must be positive and finite"),
        (nn.SigLIPLoss, {"bias": math.nan}, ValueError, "bias must be finite in float32, got nan"),
        (nn.MoCoQueue, {"features": 0}, ValueError, "features must be at least 1, got 0"),
        (nn.MoCoQueue, {"features": 2.5}, TypeError, "features must be an int, got float"),
        (nn.MoCoQueue, {"features": 3, "size": 0}, ValueError, "size must be at least 1, got 0"),
        (nn.MoCoQueue, {"features": 3, "temperature": 0.0}, ValueError, "temperature must be pos"),
        (nn.MoCoQueue, {"features": 3, "dtype": torch.int8}, TypeError, "dtype must be one of"),
    ],
)
def test_modules(module, arguments, error, message):
    with pytest.raises(error, match=f"^{module.__name__}: {message}"):
        module(**arguments)


@pytest.mark.parametrize(
    ("key", "error", "message"),
    [
        (torch.ones(9, 3), ValueError, "MoCoQueue: key must have at most 8 rows, got 9"),
        (x[:, :2], ValueError, r"MoCoQueue: key must have shape \[n, 3\]"),
        (x[:0], ValueError, "MoCoQueue: key must have shape .* n at least 1"),
        (x.long(), TypeError, "MoCoQueue: key must be one of float64"),
    ],
)
def test_enqueue(key, error, message):
    with pytest.raises(error, match=message):
        nn.MoCoQueue(3, 8).enqueue(key)


def test_queue_of_another_width_or_dtype():
    with pytest.raises(ValueError, match=r"query must have shape \[n, 2\].*got \[4, 3\]"):
        nn.MoCoQueue(2, 8)(x, x)
    with pytest.raises(TypeError, match="query must have the dtype of the queue, bfloat16"):
        nn.MoCoQueue(3, 8, dtype=torch.bfloat16)(x, x)
