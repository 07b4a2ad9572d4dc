"""The operator contract of the engine and of NT-Xent on interpreted Triton kernels.

Not: float64, which the kernels refuse; torch.compile, which needs compiled ones.
"""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.configurations import Configuration
from tests.losses import test_nt_xent_contract
from tests.similarity import test_engine_contract, test_terms_contract


@pytest.fixture(params=["triton"])
def implementation(request):
    with sslkernels.backend(request.param):
        yield request.param


fused = implementation


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Small inputs then have several tiles, and ragged ones at their edges."""
    for name in ("forward", "gradient", "product", "symmetric", "added", "owned"):
        monkeypatch.setattr(configurations, name, lambda *_: Configuration(16, 16, 16, 4, 1))


@pytest.fixture(autouse=True)
def no_float64(request):
    parameters = getattr(request.node, "callspec", None)
    if parameters is not None and torch.float64 in parameters.params.values():
        pytest.skip("the Triton kernels take no float64")


class TestLogSumExp(test_engine_contract.TestLogSumExp):
    pass


class TestWeightedLogSumExp(test_engine_contract.TestWeightedLogSumExp):
    pass


class TestLogitTerms(test_terms_contract.TestLogitTerms):
    pass


class TestNTXent(test_nt_xent_contract.TestNTXent):
    pass
