"""The operator contract of augmentation on interpreted Triton kernels.

Not: float64, which the kernels refuse; torch.compile, which needs compiled ones.
"""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels.augment.layout import AFFINE
from tests.augment import test_contract


@pytest.fixture(params=["triton"])
def implementation(request):
    with sslkernels.backend(request.param):
        yield request.param


fused = implementation


@pytest.fixture(autouse=True)
def no_float64(request):
    parameters = getattr(request.node, "callspec", None)
    if parameters is not None and torch.float64 in parameters.params.values():
        pytest.skip("the Triton kernels take no float64")


class TestAugment(test_contract.TestAugment):
    def test_second_derivative_is_a_clear_error(self, fused, variant):
        if not variant["policy"].stages & ~AFFINE:
            pytest.skip("there is one, which is judged in float64")
        super().test_second_derivative_is_a_clear_error(fused, variant)
