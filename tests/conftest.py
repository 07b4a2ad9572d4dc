"""Settings and fixtures that every test shares."""

from __future__ import annotations

import os

# Before torch loads OpenMP: several test processes share the cores, and waiting threads that spin
# take them from each other.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import hypothesis
import pytest
import torch
from hypothesis import HealthCheck

import sslkernels
from sslkernels import backends

pytest.register_assert_rewrite("tests.contract", "tests.rounding")

# The implementation is a fixture; nothing in it has to be reset from one example to the next.
common = {"deadline": None, "suppress_health_check": [HealthCheck.function_scoped_fixture]}
hypothesis.settings.register_profile("same", derandomize=True, **common)
hypothesis.settings.register_profile("explore", **common)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "same"))

torch.set_num_threads(2)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A contract's `variants` become one test each, of which tracing takes seconds."""
    variants = getattr(metafunc.cls, "variants", None)
    if variants and "variant" in metafunc.fixturenames:
        rest = [pytest.mark.traced] if metafunc.function.__name__ in metafunc.cls.traced else []
        values = [
            pytest.param(variant, id=name, marks=rest if index else [])
            for index, (name, variant) in enumerate(variants.items())
        ]
        metafunc.parametrize("variant", values)


@pytest.fixture(params=["cpu", "chunked", "reference"])
def implementation(request):
    """Runs the test under each implementation; skips those that cannot run here."""
    yield from _forced(request)


@pytest.fixture(params=["cpu", "chunked"])
def fused(request):
    """As `implementation`, for what only operators with a backward of their own promise."""
    yield from _forced(request)


def _forced(request):
    op = getattr(request.cls, "op", "nt_xent")
    reason = backends.why_not(op, request.param, torch.empty(0))
    if reason:
        pytest.skip(f"{request.param}: {reason.splitlines()[0]}")
    with sslkernels.backend(request.param):
        yield request.param
