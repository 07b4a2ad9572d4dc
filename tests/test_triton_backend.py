"""When the Triton kernels are chosen, when not, and what is said then. No GPU is needed."""

from __future__ import annotations

import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch

import sslkernels
from sslkernels import backends
from sslkernels.similarity import logsumexp


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


def test_the_import_leaves_the_kernels_alone():
    code = (
        "import sys, sslkernels\n"
        "ours = [x for x in sys.modules if x.startswith('sslkernels')]\n"
        "assert not [x for x in ours if 'triton' in x]\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
