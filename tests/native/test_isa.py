"""Which instruction set runs: the table, and the environment variables as a process sees them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from sslkernels.native import NativeUnavailable, flags
from sslkernels.native.isa import ENVIRONMENT, candidates, cpu_features

x86 = pytest.mark.skipif("AVX2" not in flags.ISAS, reason="not an x86 machine")

if "AMX" in flags.ISAS:
    FULL = frozenset[str]().union(*(isa.cpu_features for isa in flags.ISAS.values()))
    NO_AMX = FULL - {"amx_tile", "amx_bf16", "amx_int8"}


@x86
def test_capability_decides_and_the_best_need_the_cpu() -> None:
    assert candidates({}, "AVX512", FULL) == ["AMX", "AVX512_BF16", "AVX512"]
    assert candidates({}, "AVX512", NO_AMX) == ["AVX512_BF16", "AVX512"]
    assert candidates({}, "AVX512", NO_AMX - {"avx512_bf16"}) == ["AVX512"]
    assert candidates({}, "AVX512", None) == ["AVX512"]
    # ATEN_CPU_CAPABILITY lowers what torch reports: AMX must not come back.
    assert candidates({}, "AVX2", FULL) == ["AVX2"]
    assert candidates({}, "DEFAULT", FULL) == ["DEFAULT"]


def test_unknown_capability_runs_the_baseline() -> None:
    assert candidates({}, "SVE256", None) == ["DEFAULT"]


@x86
def test_own_variable_overrules() -> None:
    assert candidates({ENVIRONMENT: "avx2"}, "AVX512", FULL) == ["AVX2"]
    assert candidates({ENVIRONMENT: "amx"}, "DEFAULT", FULL) == ["AMX"]
    assert candidates({ENVIRONMENT: "AVX512"}, "AVX512", FULL) == ["AVX512"]
    assert candidates({ENVIRONMENT: ""}, "AVX2", FULL) == ["AVX2"]


@x86
def test_own_variable_cannot_ask_for_the_impossible() -> None:
    with pytest.raises(NativeUnavailable, match=r"'sse9'; on this machine: default, avx2"):
        candidates({ENVIRONMENT: "sse9"}, "AVX512", FULL)
    with pytest.raises(NativeUnavailable, match="this CPU lacks amx_bf16 amx_int8 amx_tile"):
        candidates({ENVIRONMENT: "amx"}, "AVX512", NO_AMX)


def isa_of_process(**environ: str) -> str:
    inherited = dict(os.environ)
    for name in ("ATEN_CPU_CAPABILITY", ENVIRONMENT):
        inherited.pop(name, None)
    command = [sys.executable, "-c", "from sslkernels import native; print(native.isa())"]
    result = subprocess.run(
        command, env={**inherited, **environ}, capture_output=True, text=True, check=True
    )
    return result.stdout.strip()


@x86
@pytest.mark.skipif("avx2" not in (cpu_features() or ()), reason="this CPU has no AVX2")
def test_environment_of_a_process() -> None:
    assert isa_of_process(ATEN_CPU_CAPABILITY="default") == "DEFAULT"
    assert isa_of_process(ATEN_CPU_CAPABILITY="avx2") == "AVX2"
    assert isa_of_process(ATEN_CPU_CAPABILITY="default", SSLKERNELS_CPU_ISA="avx2") == "AVX2"
