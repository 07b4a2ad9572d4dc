"""The engine's Triton kernels, interpreted: against float64 at the edges, and broken on purpose."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

import sslkernels
from sslkernels.similarity import logit_terms
from sslkernels.similarity.triton import (
    configurations,
    forward,
    operators,
    products,
    symmetric,
    symmetric_gradients,
    tiles,
)
from sslkernels.similarity.triton.configurations import Configuration
from tests.similarity.test_engine_contract import TestLogSumExp as LogSumExp
from tests.similarity.test_terms_contract import TestLogitTerms as LogitTerms

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
KINDS = ("forward", "gradient", "product", "symmetric", "added", "owned")
engine, terms = LogSumExp(), LogitTerms()
for contract in (LogSumExp, LogitTerms):
    contract.__test__ = False  # imported for their parts


@pytest.fixture(autouse=True)
def triton_backend():
    with sslkernels.backend("triton"):
        yield


@pytest.fixture
def small_tiles(monkeypatch):
    """Small inputs then have several tiles, and ragged ones at their edges."""
    for name in KINDS:
        monkeypatch.setattr(configurations, name, lambda *_: Configuration(16, 16, 16, 4, 1))


@pytest.fixture
def deterministic():
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", engine.variants)
class TestLogSumExpAtTheEdges:
    @pytest.mark.parametrize("shape", [(1, 1, 1), (16, 16, 16), (37, 45, 33), (33, 17, 64)])
    def test_ragged_sizes(self, small_tiles, dtype, variant, shape):
        self.check(dtype, variant, shape)

    def test_shipped_tiles(self, dtype, variant):
        self.check(dtype, variant, (130, 140, 70))

    def test_few_rows_and_many_columns(self, small_tiles, monkeypatch, dtype, variant):
        monkeypatch.setattr(forward, "_PROGRAMS", 6)
        self.check(dtype, variant, (20, 100, 16))

    def test_gradient_in_chunks(self, small_tiles, monkeypatch, dtype, variant):
        monkeypatch.setattr(products, "WORKSPACE_MIB", 1e-3)
        monkeypatch.setattr(symmetric, "_LARGEST_PARTIAL_MIB", 0.0)
        self.check(dtype, variant, (70, 30, 20))

    def check(self, dtype, variant, shape):
        rows, columns, features = shape
        settings = engine.variants[variant]
        tensors = engine.make(
            dtype, settings, rows=rows, columns=columns, features=features, scale=1.7
        )
        engine.check(tensors, settings)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestSymmetric:
    def tensors(self, dtype, rows, features, scale=3.0):
        names = {"names": ("q", "scale")}
        return engine.make(dtype, names, rows=rows, features=features, scale=scale)

    @pytest.mark.parametrize("rows", [2, 16, 34, 70])
    @pytest.mark.parametrize("run", [1, 3])
    def test_tiles_above_the_diagonal(self, small_tiles, monkeypatch, dtype, rows, run):
        monkeypatch.setattr(symmetric, "_PROGRAMS", 1)
        monkeypatch.setattr(symmetric, "_LONGEST_RUN", run)
        for exclude in ((), (0, rows // 2)):
            engine.check(self.tensors(dtype, rows, 24), {"exclude": exclude})

    def test_without_atomics(self, small_tiles, deterministic, kernel_memory, dtype):
        for features in (24, configurations.widest_owned(dtype) + 1):
            engine.check(self.tensors(dtype, 34, features), {"exclude": (0,)})
        assert kernel_memory.updated == 0

    def test_rows_far_below_the_others(self, small_tiles, dtype):
        """One exponential for both sides of a pair would underflow here."""
        tensors = self.tensors(dtype, 34, 16, scale=60.0)
        length = torch.linspace(0.02, 1.7, 34)[:, None]
        tensors["q"] = (tensors["q"].float() * length).to(dtype)
        tensors["q"][3] = -tensors["q"][30]
        engine.check(tensors, {"exclude": (0,)})

    def test_exclusions_that_are_not_symmetric(self, small_tiles, dtype):
        engine.check(self.tensors(dtype, 34, 16), {"exclude": (0, 3)})

    def test_more_exclusions_than_the_kernels_take(self, dtype):
        engine.check(self.tensors(dtype, 34, 16), {"exclude": (0, 3, 5)})


def test_bytes_of_the_symmetric_forward_against_the_whole_matrix(monkeypatch, kernel_memory):
    """With as many tiles in a program as there may be: what runs of them save is the same."""
    for name in KINDS:
        monkeypatch.setattr(configurations, name, lambda *_: Configuration(16, 16, 128, 4, 1))
    monkeypatch.setattr(symmetric, "_PROGRAMS", 1)
    monkeypatch.setattr(forward, "_PROGRAMS", 1)
    q, scale = torch.randn(640, 128).to(torch.bfloat16), torch.ones(())
    moved = []
    for call in (symmetric.row_logsumexp, forward.row_logsumexp):
        kernel_memory.reset()
        call(operators._logits(q, None, scale, None, (0,), 0))
        moved.append(kernel_memory.loaded + kernel_memory.stored)
    assert moved[0] <= 0.6 * moved[1]


@pytest.mark.parametrize("setting", ["high", "medium"])
@pytest.mark.parametrize("variant", ["cross with bias", "symmetric"])
def test_float32_products_of_lower_precision(small_tiles, setting, variant):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        settings = engine.variants[variant]
        tensors = engine.make(torch.float32, settings, rows=37, columns=45, features=33)
        engine.check(tensors, settings)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("variant", terms.variants)
class TestTerms:
    @pytest.mark.parametrize(
        ("counted", "chunked"), [("some", False), ("some", True), ("none", False), ("all", False)]
    )
    def test_rows_that_do_not_count(
        self, small_tiles, monkeypatch, dtype, variant, counted, chunked
    ):
        if chunked:
            monkeypatch.setattr(products, "WORKSPACE_MIB", 1e-3)
            monkeypatch.setattr(forward, "_PROGRAMS", 6)
        target = torch.randint(0, 30, (40,), generator=torch.Generator().manual_seed(1))
        skip = {"some": target % 3 == 0, "none": target >= 0, "all": target < 0}[counted]
        settings = terms.variants[variant] | {"target": target.masked_fill(skip, -1)}
        tensors = terms.make(dtype, settings, rows=40, columns=30, features=20)
        terms.check(tensors, settings)

    def test_largest(self, small_tiles, dtype, variant):
        settings = terms.variants[variant]
        tensors = terms.make(dtype, settings)
        found = logit_terms(**tensors, **terms.settings(tensors, settings)).largest
        with sslkernels.backend("chunked"):
            wanted = logit_terms(**tensors, **terms.settings(tensors, settings)).largest
        torch.testing.assert_close(found, wanted)


def test_tiny_float16_gradients_survive(small_tiles):
    """Alone they are below the smallest float16: the upstream gradient has no loss scale yet."""
    q = torch.randn(20, 16, generator=torch.Generator().manual_seed(0)).half()
    upstream = torch.full((20,), 1e-8)
    args = (q, q * 0.5, torch.ones(()), None, [], 0)
    lse = operators.logsumexp_forward(*args)
    _, _, dscale, _ = operators.logsumexp_backward(upstream, lse, *args[:-1], True, 0)
    _, _, wanted, _ = operators.logsumexp_backward(upstream * 1e8, lse, *args[:-1], True, 0)
    torch.testing.assert_close(dscale * 1e8, wanted, rtol=1e-3, atol=0.0)


@triton.jit
def rows_without_mask(
    base, rows, row_mask, first_column, width, BLOCK: tl.constexpr, MASK_COLUMNS: tl.constexpr
):
    columns = first_column + tl.arange(0, BLOCK)
    return tl.load(base + rows.to(tl.int64)[:, None] * width + columns[None, :])


@triton.jit
def next_column(rows, offset, column_count):
    return ((rows.to(tl.int64) + offset + 1) % column_count).to(tl.int32)


@triton.jit
def overlapping_tiles(blocks):
    """Forgets that the line of the middle row is half empty."""
    x, y = tl.program_id(0), tl.program_id(1)
    beyond = x >= blocks - y
    row = tl.where(beyond, blocks - 1 - y, y)
    return row, tl.where(beyond, x - 1, y + x), blocks < 0


@triton.jit
def no_row_mask(a, b, accumulator, PRECISION: tl.constexpr):
    return tl.dot(a, b, input_precision="ieee")


class TestBrokenKernels:
    """Each defect must be caught, by an error of the checkers or by the values."""

    def run(self):
        tensors = engine.make(torch.float32, {"names": ("q", "scale")}, rows=40, features=24)
        engine.check(tensors, {"exclude": (0,)})

    @pytest.mark.parametrize(
        ("modules", "name", "broken", "message"),
        [
            (
                [tiles, symmetric, symmetric_gradients],
                "load_rows",
                rows_without_mask,
                "OutOfBounds",
            ),
            ([tiles], "excluded_column", next_column, "value: error"),
            ([symmetric_gradients], "_upper_tile", overlapping_tiles, "dq: error|dscale: error"),
            ([tiles, symmetric_gradients], "dot", no_row_mask, "value: error"),
        ],
        ids=["no mask", "off by one", "a tile twice", "no accumulation"],
    )
    def test_a_broken_part(self, small_tiles, monkeypatch, modules, name, broken, message):
        self.run()
        for module in modules:
            monkeypatch.setattr(module, name, broken)
        with pytest.raises(Exception, match=message):
            self.run()

    def test_a_race_of_programs(self, small_tiles, monkeypatch):
        """Partial results of two row blocks in one place."""
        self.run()
        monkeypatch.setattr(tl, "program_id", _only_first_row_block(tl.program_id))
        with pytest.raises(Exception, match="Race"):
            self.run()


def _only_first_row_block(program_id):
    def broken(axis, **options):
        at = program_id(axis, **options)
        return at * 0 if axis == 1 else at

    return tl.core.builtin(broken)
