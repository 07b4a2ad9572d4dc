"""The operator contract of the engine and of its losses on interpreted Triton kernels.

Not: float64, which the kernels refuse; torch.compile, which needs compiled ones.
"""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels.similarity.triton import configurations
from sslkernels.similarity.triton.configurations import Configuration
from tests.losses import test_clip_contract, test_nt_xent_contract
from tests.similarity import (
    test_engine_contract,
    test_fixed_keys,
    test_pairs,
    test_pairs_contract,
    test_terms_contract,
)


@pytest.fixture(params=["triton"])
def implementation(request):
    with sslkernels.backend(request.param):
        yield request.param


fused = implementation


@pytest.fixture(autouse=True)
def small_tiles(monkeypatch):
    """Small inputs then have several tiles, and ragged ones at their edges."""
    for name in ("forward", "gradient", "product", "symmetric", "added", "owned", "kept"):
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


class TestFixedKeys(test_fixed_keys.TestFixedKeys):
    pass


class TestFixedKeysAtTheEdges(test_fixed_keys.TestEdges):
    test_excluded_columns = None  # in float64
    test_any_budget_gives_the_same = None  # of the chunked path
    test_same_bits_for_any_number_of_threads = None  # of the CPU


class TestPairTerms(test_pairs_contract.TestPairTerms):
    pass


class TestPairsWideApart(test_pairs.TestWideApart):
    pass


class TestCLIP(test_clip_contract.TestCLIP):
    pass


class TestSigLIP(test_clip_contract.TestSigLIP):
    pass


class TestSigmoid(test_pairs.TestSigmoid):
    test_value_and_gradients = None  # draws float64
    test_sizes_around_blocks = None  # of the CPU
