"""Made-up results: what the report and the comparison are tested on."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from benchmarks.accuracy import Error
from benchmarks.case import Case
from benchmarks.environment import Environment
from benchmarks.gemm import GemmRate
from benchmarks.memory import Memory
from benchmarks.results import CaseResult, Results, Skip, Timing
from benchmarks.statistics import paired_ratio, spread

ENVIRONMENT = Environment(
    cpu="Made-up CPU <2 cores & co>",
    cores=2,
    flags=["avx2"],
    torch_capability="AVX2",
    sslkernels_isa="AVX2",
    gpu=None,
    threads=2,
    system="Linux x86_64",
    python="3.11.7",
    packages={"torch": "2.14.1", "lightly": "absent"},
    variables={"SSLKERNELS_CPU_ISA": "avx2"},
    commit="0123456789ab",
    dirty=False,
    started="2026-01-01 00:00:00 UTC",
    finished="2026-01-01 00:10:00 UTC",
    load_before=0.1,
    load_after=1.9,
)


def _samples(median: float, noise: float, rounds: int, seed: int) -> list[float | None]:
    generator = np.random.default_rng(seed)
    return [float(value) for value in median * generator.lognormal(0.0, noise, rounds)]


def _case_result(case: Case, ours: float, noise: float, rounds: int, seed: int) -> CaseResult:
    medians = {"ours": ours, "eager": 8.0 * ours, "compile": 4.0 * ours}
    timings = []
    for mode, share in (("forward", 0.3), ("forward+backward", 1.0)):
        samples = {
            name: _samples(share * median, noise, rounds, seed + i)
            for i, (name, median) in enumerate(medians.items())
        }
        for name, values in samples.items():
            p20, median, p80 = spread([value for value in values if value is not None])
            ratio = paired_ratio(values, samples["ours"])
            timings.append(
                Timing(name, mode, median, p20, p80, rounds, 1, ratio, 50.0, 40.0, values)
            )
    rows = case.shape[0]
    memory = [
        Memory("ours", rows * 4096, 3.0, ours, "peak resident memory (VmHWM)", None),
        Memory("eager", rows * rows * 13, 100.0, 8 * ours, "peak resident memory (VmHWM)", None),
        Memory("compile", None, None, None, None, "failed: made up"),
    ]
    errors = [
        Error(name, kind, 1e-7 * (i + 1), 1e-6 * (i + 1))
        for i, name in enumerate(medians)
        for kind in ("correlated", "independent")
    ]
    skipped = [Skip("lightly", "lightly is not installed: pip install lightly")]
    return CaseResult(case, "cpu", timings, memory, errors, skipped)


@pytest.fixture
def make_results() -> Callable[..., Results]:
    """A run with two sizes; `ours` scales our time, `noise` spreads every sample."""

    def make(ours: float = 1e-3, noise: float = 0.01, rounds: int = 30, seed: int = 0) -> Results:
        cases = [
            Case("nt_xent", (rows, 128), "float32", "high", "cpu", 2, {"temperature": 0.1})
            for rows in (512, 2048)
        ]
        return Results(
            label="Made-up run",
            command="python -m benchmarks run --quick",
            quick=True,
            environment=ENVIRONMENT,
            gemm=[GemmRate("float32 high", 120.0, "2048x2048x2048")],
            cases=[_case_result(case, ours, noise, rounds, seed) for case in cases],
        )

    return make
