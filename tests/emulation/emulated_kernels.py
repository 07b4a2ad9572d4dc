"""The shipped kernels as compiled for sm_80, run in the emulator of PTX: against float64, at ragged
sizes, and with the compiled code broken on purpose."""

from __future__ import annotations

import re

import pytest
import torch

import sslkernels
from sslkernels import backends
from sslkernels.similarity.triton import configurations, forward, operators, symmetric
from tests.emulation.ptx import errors
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
DTYPES = pytest.mark.parametrize("dtype", SHAPES, ids=str)


@pytest.fixture(autouse=True)
def triton_on_cpu_tensors(monkeypatch):
    monkeypatch.setattr(backends, "_interpreting", lambda: True)
    monkeypatch.setattr(configurations, "architecture", lambda: "sm_80")
    with sslkernels.backend("triton"):
        yield


@DTYPES
@pytest.mark.parametrize("variant", engine.variants)
def test_logsumexp(dtype, variant):
    settings = engine.variants[variant]
    tensors = engine.make(dtype, settings, **SHAPES[dtype])
    with emulated() as found:
        engine.check(tensors, settings)
    assert len(found) >= 2, "a forward and a backward"
    assert all(launched.counts.matrix_instructions() > 0 for launched in found)


@DTYPES
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


@DTYPES
def test_fixed_keys(dtype):
    rows, columns, features = SHAPES[dtype].values()
    variant = {"bias": True, "columns": columns}
    with emulated() as found:
        fixed.check(fixed.make(dtype, variant, rows=rows, features=features), variant)
    [launched] = found  # value and gradient
    assert launched.counts.matrix_instructions() > 0
    assert no_atomics(found)


@DTYPES
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


@DTYPES
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


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
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


def test_the_symmetric_forward_against_a_whole_matrix(monkeypatch):
    """It multiplies ten of the sixteen tiles of four row blocks."""
    q = torch.randn(512, 64).to(torch.bfloat16)
    logits = operators._logits(q, None, torch.ones(()), None, (0,), 0)
    products = []
    for module in (symmetric, forward):
        monkeypatch.setattr(module, "_PROGRAMS", 1)
        with emulated() as found:
            module.row_logsumexp(logits)
        products.append(sum(x.counts.matrix_instructions() for x in found))
    assert products[0] == products[1] * 10 // 16


DEFECTS = {
    "no barrier": (r"bar\.sync\s+0;", ""),
    "no wait": (r"cp\.async\.wait_group\s+\d+;", ""),
    "off by one": (r"(?<=\+ )0(?= \][^;]*;)", "4"),
}
"""What is looked for in the compiled code, and what takes its place, one at a time."""
DRAIN = r"cp\.async\.wait_group\s+0;\s+bar\.sync\s+0;"


def without_load_masks(ptx):
    """The mask of a copy is in how many bytes it reads."""
    ptx = re.sub(r"@%p\d+ (?=ld\.global)", "", ptx)
    return re.sub(r"(cp\.async\.c[ag]\.[^;]*\], 0x\w+), %r\d+;", r"\1;", ptx)


def without_store_masks(ptx):
    return re.sub(r"@%p\d+ (?=st\.global)", "", ptx)


class TestBrokenCode:
    """Each defect in the compiled forward must be caught, by a fault or by the values."""

    @pytest.fixture(autouse=True)
    def many_columns_in_a_program(self, monkeypatch):
        """So that its loop goes round, and what orders one round and the next matters."""
        monkeypatch.setattr(forward, "_PROGRAMS", 1)

    @DTYPES
    @pytest.mark.parametrize("defect", DEFECTS)
    def test_defect(self, dtype, defect):
        pattern, replacement = DEFECTS[defect]
        [ptx] = self.run(dtype)
        places = list(re.finditer(pattern, ptx))
        assert places
        for place in places:
            if self.orders_nothing(ptx, place):
                continue
            broken = ptx[: place.start()] + replacement + ptx[place.end() :]
            with pytest.raises((errors.Fault, AssertionError)):
                self.run(dtype, lambda _, broken=broken: broken)

    @DTYPES
    @pytest.mark.parametrize("access", ["load", "store"])
    def test_no_masks(self, dtype, access):
        """All of them at once: a tile that lies within its tensor needs none."""
        with pytest.raises(errors.OutOfBounds):
            self.run(dtype, without_load_masks if access == "load" else without_store_masks)

    def orders_nothing(self, ptx, place):
        """Triton drains its pipeline after the loop, even if that left no copy under way."""
        drains = list(re.finditer(DRAIN, ptx))
        return any(x.start() <= place.start() < x.end() for x in drains[1:])

    def run(self, dtype, change=lambda ptx: ptx):
        """The code that ran, if the values were right."""
        settings = {"names": ("q", "k", "scale")}
        tensors = engine.make(dtype, settings, rows=70, columns=300, features=24)
        ran = []
        with emulated(lambda ptx: ran.append(change(ptx)) or ran[-1]):
            value = engine.call(tensors, settings)
        exact = {name: x.double() for name, x in tensors.items()}
        expected = engine.reference(exact, settings)
        torch.testing.assert_close(value.double(), expected, rtol=0, atol=1e-3)
        return ran
