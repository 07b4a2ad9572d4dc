"""nt_xent: bad input."""

from __future__ import annotations

import pytest
import torch

import sslkernels
from tests.losses.test_nt_xent import views


class TestBadInput:
    good = torch.zeros(4, 3)

    @pytest.mark.parametrize(
        ("z1", "z2", "error", "message"),
        [
            (good, torch.zeros(3, 3), ValueError, r"z2 .*shape of z1, \[4, 3\], got \[3, 3\]"),
            (good, torch.zeros(4, 2), ValueError, r"z2 .*shape of z1, \[4, 3\], got \[4, 2\]"),
            (good, good.double(), TypeError, "z2 .*dtype of z1, float32, got float64"),
            (good, good.bfloat16(), TypeError, "z2 .*dtype of z1, float32, got bfloat16"),
            (good, good.to("meta"), ValueError, "z2 .*device of z1, cpu, got meta"),
            (good[0], good[0], ValueError, r"z1 must be 2-D .*got \[3\]"),
            (good, good[None], ValueError, r"z2 must be 2-D .*got \[1, 4, 3\]"),
            (good[None], good[None], ValueError, r"z1 must be 2-D .*got \[1, 4, 3\]"),
            (good.int(), good.int(), TypeError, "z1 must be one of float64.*got int32"),
            (good.bool(), good, TypeError, "z1 must be one of float64.*got bool"),
            (good, good.cfloat(), TypeError, "z2 must be one of float64.*got complex64"),
            (good[:0], good[:0], ValueError, r"at least one row, got \[0, 3\]"),
            (good[:, :0], good[:, :0], ValueError, r"z1 .*at least one feature, got \[4, 0\]"),
            (good.to_sparse(), good, TypeError, "z1 must be a dense tensor, got layout"),
            (good, good.to_sparse_csr(), TypeError, "z2 must be a dense tensor, got layout"),
            (
                torch.nested.nested_tensor([good, good]),
                good,
                TypeError,
                "z1 must be a dense tensor, got a nested tensor",
            ),
            (
                good,
                torch.nested.nested_tensor([good, good], layout=torch.jagged),
                TypeError,
                "z2 must be a dense tensor, got a nested tensor",
            ),
            (good.numpy(), good, TypeError, "z1 must be a torch.Tensor, got ndarray"),
            (good, None, TypeError, "z2 must be a torch.Tensor, got NoneType"),
        ],
    )
    def test_views(self, z1, z2, error, message):
        with pytest.raises(error, match="^nt_xent: .*" + message):
            sslkernels.nt_xent(z1, z2)

    @pytest.mark.parametrize("as_tensor", [False, True])
    @pytest.mark.parametrize("value", [0.0, -0.1, float("nan"), float("inf"), -float("inf")])
    def test_temperature_value(self, value, as_tensor):
        temperature = torch.tensor(value) if as_tensor else value
        with pytest.raises(ValueError, match="temperature must be positive and finite, got"):
            sslkernels.nt_xent(self.good, self.good, temperature)

    @pytest.mark.parametrize("as_tensor", [False, True])
    @pytest.mark.parametrize("value", [1e-40, 5e-324, 1e38])
    def test_temperature_without_a_reciprocal(self, value, as_tensor):
        """Positive and finite, but infinite or zero in float32, or so once it is divided by."""
        temperature = torch.tensor(value, dtype=torch.float64) if as_tensor else value
        wide = self.good.double()
        if value > 5e-324:
            assert sslkernels.nt_xent(wide, wide, temperature).isfinite()
        with pytest.raises(ValueError, match=r"temperature must lie in .* float32 holds it"):
            sslkernels.nt_xent(self.good, self.good, temperature)

    @pytest.mark.parametrize(
        ("temperature", "error", "message"),
        [
            (torch.ones(2), ValueError, r"temperature must have one element, got shape \[2\]"),
            (torch.ones(1, 1), ValueError, "temperature must have at most one dimension"),
            (torch.tensor(1), TypeError, "temperature must be one of float64.*got int64"),
            (torch.ones((), device="meta"), ValueError, "temperature .*device of z1, cpu"),
            ("0.5", TypeError, "temperature must be a float or a tensor, got str"),
            (None, TypeError, "temperature must be a float or a tensor, got NoneType"),
            (True, TypeError, "temperature must be a float or a tensor, got bool"),
        ],
    )
    def test_temperature_kind(self, temperature, error, message):
        with pytest.raises(error, match="^nt_xent: " + message):
            sslkernels.nt_xent(self.good, self.good, temperature)

    @pytest.mark.parametrize("reduction", ["max", "MEAN", None, ["mean"]])
    def test_reduction(self, reduction):
        with pytest.raises(ValueError, match="reduction must be one of mean, sum, none, got"):
            sslkernels.nt_xent(self.good, self.good, reduction=reduction)

    def test_decoupled_without_negatives(self):
        with pytest.raises(ValueError, match="decoupled needs at least 2 samples"):
            sslkernels.nt_xent(self.good[:1], self.good[:1], decoupled=True)

    def test_group(self):
        with pytest.raises(TypeError, match="group must be a process group"):
            sslkernels.nt_xent(self.good, self.good, group=object())

    def test_numpy_scalar_is_a_float(self):
        temperature = torch.tensor([0.5]).numpy()[0].astype("float64")
        expected = sslkernels.nt_xent(*views(4, 3), 0.5)
        assert torch.equal(sslkernels.nt_xent(*views(4, 3), temperature), expected)
