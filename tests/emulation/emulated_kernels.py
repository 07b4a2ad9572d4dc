"""The shipped kernels as compiled for sm_80, run in the emulator of PTX: against float64, at ragged
sizes, in every dtype and precision, and what they count."""

from __future__ import annotations

import pytest
import torch

import sslkernels
from sslkernels import backends
from sslkernels.similarity.triton import (
    configurations,
    forward,
    operators,
    products,
    symmetric,
    symmetric_gradients,
)
from tests.emulation import kinds
from tests.emulation.ptx.launches import emulated
from tests.losses.test_clip_contract import TestSigLIP as SigLIP
from tests.similarity.test_engine_contract import TestLogSumExp as LogSumExp
from tests.similarity.test_fixed_keys import TestFixedKeys as FixedKeys
from tests.similarity.test_pairs_contract import TestPairTerms as PairTerms
from tests.similarity.test_terms_contract import TestLogitTerms as LogitTerms

engine, terms, fixed, pairs, siglip = LogSumExp(), LogitTerms(), FixedKeys(), PairTerms(), SigLIP()
for contract in (LogSumExp, LogitTerms, FixedKeys, PairTerms, SigLIP):
    contract.__test__ = False  # imported for their parts

SHAPES = {
    torch.float32: {"rows": 70, "columns": 50, "features": 24},
    torch.bfloat16: {"rows": 130, "columns": 140, "features": 40},
    torch.float16: {"rows": 130, "columns": 140, "features": 40},
}
"""More than one of the shipped tiles each way, and ragged ones at the edges."""


@pytest.fixture(params=kinds.KINDS)
def dtype(request):
    """With the precision of float32 products that goes with it."""
    with kinds.chosen(request.param) as dtype:
        yield dtype


@pytest.fixture(autouse=True)
def triton_on_cpu_tensors(monkeypatch):
    monkeypatch.setattr(backends, "_interpreting", lambda: True)
    monkeypatch.setattr(configurations, "architecture", lambda: "sm_80")
    with sslkernels.backend("triton"):
        yield


@pytest.mark.parametrize("variant", engine.variants)
def test_logsumexp(dtype, variant):
    settings = engine.variants[variant]
    tensors = engine.make(dtype, settings, **SHAPES[dtype])
    with emulated() as found:
        engine.check(tensors, settings)
    assert len(found) >= 2, "a forward and a backward"
    assert all(launched.counts.matrix_instructions() > 0 for launched in found)


@pytest.mark.parametrize("variant", ["plain", "all"])
def test_logit_terms(dtype, variant):
    shape = SHAPES[dtype]
    target = torch.arange(shape["rows"]) % shape["columns"]
    settings = terms.variants[variant] | {"target": target.where(target % 3 != 0, -1)}
    tensors = terms.make(dtype, settings, **shape)
    with emulated() as found:
        terms.check(tensors, settings)
    assert len(found) >= 2
    assert all(launched.counts.matrix_instructions() > 0 for launched in found)


def test_fixed_keys(dtype):
    rows, columns, features = SHAPES[dtype].values()
    variant = {"bias": True, "columns": columns}
    with emulated() as found:
        fixed.check(fixed.make(dtype, variant, rows=rows, features=features), variant)
    [launched] = found  # value and gradient
    assert launched.counts.matrix_instructions() > 0
    assert no_atomics(found)


@pytest.mark.parametrize("scale", [1.7, 300.0])
def test_pair_terms(dtype, scale):
    """Also where one exponential does not serve both sides."""
    columns, rows, features = SHAPES[dtype].values()
    rows, columns = min(rows, columns), max(rows, columns)
    variant = {"rows": rows, "columns": columns, "first": (columns - rows) // 2}
    tensors = pairs.make(dtype, variant, features=features)
    tensors["scale"].fill_(scale)
    with emulated() as found:
        pairs.check(tensors, variant)
    assert len(found) == 4  # forward, gradient of the logits, two products
    assert all(launched.counts.matrix_instructions() > 0 for launched in found)
    assert no_atomics(found)


def test_sigmoid_loss(dtype):
    rows, _, features = SHAPES[dtype].values()
    variant = SigLIP.variants["unnormalised"]
    with emulated() as found:
        siglip.check(siglip.make(dtype, variant, 0, rows, features, 5.0, -3.0), variant)
    assert len(found) == 3  # value with the gradient of the logits, two products
    assert all(launched.counts.matrix_instructions() > 0 for launched in found)
    assert no_atomics(found)


def no_atomics(found):
    opcodes = {name for launched in found for name in launched.counts.instructions}
    return not [name for name in opcodes if name.startswith(("atom.", "red."))]


@pytest.mark.parametrize("variant", ["cross", "symmetric"])
def test_rows_of_another_width(dtype, variant):
    """float32 rows that fit into one tile, and 16-bit rows that do not."""
    settings = engine.variants[variant]
    features = 16 if dtype is torch.float32 else 200
    tensors = engine.make(dtype, settings, rows=40, columns=50, features=features)
    with emulated():
        engine.check(tensors, settings)


@pytest.mark.parametrize("variant", ["cross with bias", "symmetric"])
def test_many_tiles_in_a_program_and_gradients_in_chunks(monkeypatch, dtype, variant):
    for module in (symmetric, forward):
        monkeypatch.setattr(module, "_PROGRAMS", 1)
    if variant == "cross with bias":
        monkeypatch.setattr(products, "WORKSPACE_MIB", 1e-3)
    settings = engine.variants[variant]
    tensors = engine.make(dtype, settings, rows=150, columns=140, features=16)
    with emulated():
        engine.check(tensors, settings)


def test_gradients_without_atomics(dtype):
    settings = {"names": ("q", "scale"), "exclude": (0,)}
    tensors = engine.make(dtype, settings, rows=70, features=24)
    torch.use_deterministic_algorithms(True)
    try:
        with emulated() as found:
            engine.check(tensors, settings)
    finally:
        torch.use_deterministic_algorithms(False)
    assert no_atomics(found)


def counted(call):
    with emulated() as found:
        call()
    return [launched.counts for launched in found]


def matrix_instructions(call):
    return sum(counts.matrix_instructions() for counts in counted(call))


class TestSymmetricAgainstTheWholeMatrix:
    """A product of the whole matrix, at the same tile, is the unit."""

    def logits(self, rows, features):
        q = torch.randn(rows, features, generator=torch.Generator().manual_seed(0))
        return operators._logits(q.to(torch.bfloat16), None, torch.ones(()), None, (0,), 0)

    @pytest.mark.parametrize("rows", [512, 1024])
    def test_products(self, rows):
        """A forward of the tiles on and above the diagonal; those again, and both their sides."""
        logits, blocks = self.logits(rows, 64), rows // 128
        unit = matrix_instructions(lambda: forward.row_logsumexp(logits))
        first = matrix_instructions(lambda: symmetric.row_logsumexp(logits))
        assert first / unit == (blocks + 1) / (2 * blocks)
        row = torch.zeros(rows)
        second = matrix_instructions(lambda: symmetric_gradients.added(logits, row, row))
        assert second / unit == (blocks + 1) / (2 * blocks) + 1
        assert 2.0 <= (first + second) / unit <= 2.5

    @pytest.mark.parametrize("features", [64, 128])
    def test_bytes(self, features):
        """Both with the grid that they are shipped with; of fewer than five blocks of rows the
        tiles on the diagonal are too large a part."""
        logits = self.logits(1024, features)
        moved = []
        for module in (symmetric, forward):
            [counts] = counted(lambda module=module: module.row_logsumexp(logits))
            moved.append(counts.sectors_read + counts.sectors_written)
        assert moved[0] <= 0.6 * moved[1]
