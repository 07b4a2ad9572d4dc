"""When the Triton kernels are chosen, when not, and what is said then. No GPU is needed."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

import sslkernels
from sslkernels import backends
from sslkernels.similarity import logsumexp

OPERATORS = (
    "logsumexp",
    "logit_terms",
    "fixed_keys",
    "pair_terms",
    "sigmoid_loss",
    "nt_xent",
    "mask_tokens",
    "augment",
)


def card(major, minor, name="a card"):
    return SimpleNamespace(major=major, minor=minor, name=name, gcnArchName="")


class TestCards:
    @pytest.mark.parametrize("version", [(8, 0), (8, 9), (9, 0), (10, 0), (12, 0)])
    def test_new_enough(self, version):
        assert backends._card_problem(card(*version)) == ""

    def test_too_old(self):
        problem = backends._card_problem(card(7, 5, "Tesla T4"))
        assert problem == "Tesla T4 is sm_75, older than sm_80"

    def test_amd(self, monkeypatch):
        monkeypatch.setattr(torch.version, "hip", "6.4")
        cards = {
            name: backends._card_problem(SimpleNamespace(gcnArchName=name, major=9, minor=4))
            for name in ("gfx942:sramecc+:xnack-", "gfx90a", "gfx1100")
        }
        assert cards["gfx942:sramecc+:xnack-"] == cards["gfx90a"] == ""
        assert cards["gfx1100"] == "gfx1100 is none of gfx90a, gfx942, gfx950"


class TestReasons:
    def test_cpu_tensor(self):
        with (
            sslkernels.backend("triton"),
            pytest.raises(RuntimeError, match=r"'triton' was asked for, but .* on cpu"),
        ):
            logsumexp(torch.ones(3, 2))

    def test_dtype(self):
        reason = backends.why_not("logsumexp", "triton", torch.ones(1, dtype=torch.float64))
        assert reason == "they take float32, bfloat16 and float16, not float64"

    def test_operator_without_kernels(self):
        reason = backends.why_not("softplus_sum", "triton", torch.ones(1))
        assert reason == "softplus_sum has no Triton kernels"

    @pytest.mark.parametrize(
        "op", ["logsumexp", "logit_terms", "fixed_keys", "clip_loss", "siglip_loss"]
    )
    def test_operators_with_kernels(self, op):
        """A CPU tensor is then the only thing in the way."""
        assert backends.why_not(op, "triton", torch.ones(1)) == "the tensor is on cpu"

    def test_triton_is_missing(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "triton", None)
        monkeypatch.setenv("TRITON_INTERPRET", "1")
        backends._prepare_triton.cache_clear()
        try:
            reason = backends.why_not("logsumexp", "triton", torch.ones(1))
        finally:
            backends._prepare_triton.cache_clear()
        assert reason == "Triton is not installed"

    def test_explain(self):
        text = sslkernels.explain("logsumexp", torch.ones(1))
        [line] = [line for line in text.splitlines() if "Triton kernels" in line]
        assert "not available: the tensor is on cpu" in line


@pytest.fixture
def gpu(monkeypatch):
    """Makes tensors of a dtype on a card that is not there."""

    def tensor(version, dtype=torch.float32):
        properties = card(*version, "Tesla T4")
        monkeypatch.setattr(torch.cuda, "get_device_properties", lambda index: properties)
        return torch.empty(6, 4, dtype=dtype, device="cuda")

    caches = (backends._prepare_triton, backends._prepare_cuda)
    for cache in caches:
        cache.cache_clear()
    with FakeTensorMode():
        yield tensor
    for cache in caches:
        cache.cache_clear()


def lines_of(text):
    """What is said of each implementation."""
    return dict(line.split(maxsplit=1) for line in text.splitlines()[1:])


class TestGPUs:
    """What runs and what is said for a CUDA tensor."""

    @pytest.mark.parametrize("op", OPERATORS)
    def test_a_card_that_is_too_old(self, gpu, op):
        dtype = torch.int64 if op == "mask_tokens" else torch.float32
        lines = lines_of(sslkernels.explain(op, gpu((7, 5), dtype)))
        assert lines["triton"].endswith("not available: Tesla T4 is sm_75, older than sm_80")
        assert lines["chunked"].endswith("runs")

    def test_a_card_that_is_too_old_takes_the_chunked_path(self, gpu):
        q = gpu((7, 5)).requires_grad_()
        assert logsumexp(q).is_cuda
        with (
            sslkernels.backend("triton"),
            pytest.raises(RuntimeError, match="Tesla T4 is sm_75, older than sm_80"),
        ):
            logsumexp(q)

    @pytest.mark.parametrize("op", OPERATORS)
    def test_a_dtype_that_the_kernels_lack(self, gpu, op):
        dtype = torch.int16 if op == "mask_tokens" else torch.float64
        lines = lines_of(sslkernels.explain(op, gpu((8, 0), dtype)))
        assert f"not {str(dtype)[6:]}" in lines["triton"] and "not available" in lines["triton"]
        assert [name for name, line in lines.items() if line.endswith("runs")] == ["chunked"]

    def test_a_dtype_that_the_kernels_lack_takes_the_chunked_path(self, gpu):
        q = gpu((8, 0), torch.float64)
        assert logsumexp(q).dtype is torch.float64
        with (
            sslkernels.backend("triton"),
            pytest.raises(RuntimeError, match=r"they take float32, .* not float64"),
        ):
            logsumexp(q)


def test_the_import_leaves_the_kernels_alone():
    code = (
        "import sys, sslkernels\n"
        "ours = [x for x in sys.modules if x.startswith('sslkernels')]\n"
        "assert not [x for x in ours if 'triton' in x]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
