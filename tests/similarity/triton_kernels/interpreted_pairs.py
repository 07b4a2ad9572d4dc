"""The Triton kernels of the operators beside the engine, interpreted: against float64 at the edges,
and broken on purpose."""

from __future__ import annotations

import pytest
import torch
import triton
import triton.language as tl

import sslkernels
from sslkernels.similarity.fixed_keys import fixed_keys_logsumexp
from sslkernels.similarity.pairs import pair_terms
from sslkernels.similarity.sigmoid import sigmoid_loss
from sslkernels.similarity.triton import (
    both_sides,
    configurations,
    fixed_keys,
    pairs,
    products,
    sigmoid,
)
from sslkernels.similarity.triton.configurations import Configuration
from sslkernels.similarity.triton.forward import Logits
from tests.losses.test_clip_contract import TestSigLIP as SigLIP
from tests.similarity.test_fixed_keys import TestFixedKeys as FixedKeys
from tests.similarity.test_pairs_contract import TestPairTerms as PairTerms

DTYPES = [torch.float32, torch.bfloat16, torch.float16]
fixed, both, siglip = FixedKeys(), PairTerms(), SigLIP()
for contract in (FixedKeys, PairTerms, SigLIP):
    contract.__test__ = False  # imported for their parts


@pytest.fixture(autouse=True)
def triton_backend():
    with sslkernels.backend("triton"):
        yield


@pytest.fixture
def small_tiles(monkeypatch):
    """Small inputs then have several tiles, and ragged ones at their edges."""
    for name in ("forward", "gradient", "product", "symmetric", "kept"):
        monkeypatch.setattr(configurations, name, lambda *_: Configuration(16, 16, 16, 4, 1))


@pytest.fixture
def few_programs(monkeypatch):
    """Each of them then has several tiles, the last one fewer."""
    for module in (fixed_keys, pairs):
        monkeypatch.setattr(module, "_PROGRAMS", 6)


@pytest.fixture
def small_buffers(monkeypatch):
    """Rows are then taken a part at a time."""
    monkeypatch.setattr(products, "WORKSPACE_MIB", 1e-3)
    monkeypatch.setattr(pairs, "_LARGEST_PARTIAL_MIB", 1e-3)


def check_fixed(dtype, variant=None, shape=(37, 45, 33)):
    rows, columns, features = shape
    variant = {"bias": True} if variant is None else variant
    tensors = fixed.make(dtype, variant, rows=rows, features=features)
    fixed.check(tensors, variant | {"columns": columns})


def check_pairs(dtype, shape=(37, 45, 33), scale=1.7):
    rows, columns, features = shape
    variant = {"rows": rows, "columns": columns, "first": (columns - rows) // 2}
    tensors = both.make(dtype, variant, features=features)
    tensors["scale"].fill_(scale)
    both.check(tensors, variant)


def check_sigmoid(dtype, shape=(37, 33), scale=5.0, bias=-3.0):
    variant = SigLIP.variants["unnormalised"]
    siglip.check(siglip.make(dtype, variant, 0, *shape, scale, bias), variant)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestFixedKeysAtTheEdges:
    @pytest.mark.parametrize("variant", fixed.variants)
    @pytest.mark.parametrize("shape", [(1, 1, 1), (16, 16, 16), (37, 45, 33), (33, 17, 64)])
    def test_ragged_sizes(self, small_tiles, dtype, variant, shape):
        check_fixed(dtype, fixed.variants[variant], shape)

    def test_shipped_tiles(self, dtype):
        check_fixed(dtype, shape=(130, 140, 60))

    def test_few_programs(self, small_tiles, few_programs, dtype):
        check_fixed(dtype, shape=(37, 100, 40))

    @pytest.mark.parametrize("variant", fixed.variants)
    def test_rows_too_wide_to_be_kept(
        self, small_tiles, small_buffers, monkeypatch, dtype, variant
    ):
        monkeypatch.setattr(configurations, "widest_owned", lambda _: 32)
        check_fixed(dtype, fixed.variants[variant], (37, 45, 70))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestPairsAtTheEdges:
    @pytest.mark.parametrize("shape", [(1, 1, 1), (16, 16, 16), (37, 45, 33), (17, 70, 64)])
    def test_ragged_sizes(self, small_tiles, dtype, shape):
        check_pairs(dtype, shape)

    def test_shipped_tiles(self, dtype):
        check_pairs(dtype, (130, 150, 70))

    def test_few_programs_and_small_buffers(self, small_tiles, few_programs, small_buffers, dtype):
        check_pairs(dtype, (70, 100, 40))

    @pytest.mark.parametrize("scale", [-300.0, 60.0, 2e3])
    def test_logits_wide_apart(self, small_tiles, dtype, scale):
        """One exponential for both sides of a pair would underflow here."""
        check_pairs(dtype, (34, 40, 16), scale)

    def test_each_score_once(self, small_tiles, monkeypatch, kernel_memory, dtype):
        """One walk over the columns reads what a walk for rows alone would read."""
        monkeypatch.setattr(pairs, "_PROGRAMS", 1)
        q, k = torch.randn(2, 64, 16).to(dtype).unbind()
        kernel_memory.reset()
        pairs.pair_terms(Logits(q, k, torch.ones(()), None), 0)
        assert kernel_memory.launches == 1
        matrices = (q.numel() + 4 * k.numel()) * q.element_size()
        assert kernel_memory.loaded == matrices + 4 * 4  # and `scale`, in each of 4 programs


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
class TestSigmoidAtTheEdges:
    @pytest.mark.parametrize("shape", [(1, 1), (16, 16), (37, 33), (50, 64)])
    def test_ragged_sizes(self, small_tiles, dtype, shape):
        check_sigmoid(dtype, shape)

    def test_shipped_tiles(self, dtype):
        check_sigmoid(dtype, (150, 70))

    def test_small_buffers(self, small_tiles, small_buffers, dtype):
        check_sigmoid(dtype, (70, 40))

    def test_value_alone(self, small_tiles, dtype):
        q, k = torch.randn(2, 37, 33).to(dtype).unbind()
        together = sigmoid_loss(q.requires_grad_(), k, 2.0, -1.0)
        with torch.no_grad():
            assert torch.equal(sigmoid_loss(q, k, 2.0, -1.0), together)


def test_no_rows():
    """As a process may have that is left without samples: sums over nothing."""
    q, k = torch.zeros(0, 5), torch.ones(3, 5)
    leaves = [q.requires_grad_(), k.requires_grad_()]
    assert fixed_keys_logsumexp(q, k, 1.0).shape == (0,)
    row_lse, column_lse, pair_logit = pair_terms(q, k, 1.0)
    assert row_lse.shape == pair_logit.shape == (0,)
    assert (column_lse == float("-inf")).all()
    loss = sigmoid_loss(q, k, 1.0, 0.0)
    assert loss == 0.0
    for gradient in torch.autograd.grad(loss + row_lse.sum() + column_lse.sum(), leaves):
        assert (gradient == 0.0).all()


@pytest.mark.parametrize("setting", ["high", "medium"])
@pytest.mark.parametrize("check", [check_fixed, check_pairs, check_sigmoid])
def test_float32_products_of_lower_precision(small_tiles, setting, check):
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(setting)
    try:
        check(torch.float32)
    finally:
        torch.set_float32_matmul_precision(before)


@pytest.mark.parametrize("check", [check_fixed, check_pairs, check_sigmoid])
def test_no_atomics(small_tiles, few_programs, kernel_memory, check):
    check(torch.float32)
    assert kernel_memory.updated == 0


@triton.jit
def without_maximum(x):
    return tl.zeros_like(x)


@triton.jit
def last_one_only(largest, total, exponents):
    return exponents, total * 0.0 + 1.0


@triton.jit
def for_rows_alone(logits, row_grad, row_lse, row_mask, column_grad, column_lse, column_mask):
    gradient = tl.exp(logits - row_lse[:, None]) * row_grad[:, None]
    return tl.where(row_mask[:, None] & column_mask[None, :], gradient, 0.0)


@triton.jit
def every_row(out, tile, rows, row_mask, columns, pitch):
    pointers = out + rows.to(tl.int64)[:, None] * pitch + columns[None, :]
    tl.store(pointers, tile.to(out.dtype.element_ty), mask=(columns < pitch)[None, :])


@triton.jit
def without_its_second_term(u):
    return u


class TestBrokenKernels:
    """Each defect must be caught, by an error of the checkers or by the values."""

    @pytest.mark.parametrize(
        ("check", "module", "name", "broken", "message"),
        [
            (check_fixed, fixed_keys, "finite_or_zero", without_maximum, "error"),
            (check_pairs, pairs, "add_exponents", last_one_only, "value: error"),
            (check_pairs, pairs, "pair_gradient", for_rows_alone, "dq: error"),
            (check_pairs, pairs, "write_tile", every_row, "OutOfBounds"),
            (check_pairs, both_sides, "_SMALLEST_SUM", tl.constexpr(0.0), "value: error"),
            (check_sigmoid, sigmoid, "_log1p_of_fraction", without_its_second_term, "value: error"),
            (check_sigmoid, sigmoid, "write_tile", every_row, "OutOfBounds"),
        ],
    )
    def test_a_broken_part(
        self, small_tiles, few_programs, monkeypatch, check, module, name, broken, message
    ):
        scale = {"scale": 300.0} if check is check_pairs else {}
        check(torch.float32, **scale)
        monkeypatch.setattr(module, name, broken)
        with pytest.raises(Exception, match=message):
            check(torch.float32, **scale)
