"""Runs the cases one after the other and puts the measurements together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import accuracy, environment, gemm, memory, timing
from benchmarks.accuracy import Error
from benchmarks.case import Case, torch_state
from benchmarks.errors import describe
from benchmarks.memory import Memory
from benchmarks.registry import (
    EAGER,
    OURS,
    Function,
    Implementation,
    OpBenchmark,
    loss_and_gradients,
    operator,
)
from benchmarks.results import CaseResult, Results, Skip, Timing
from benchmarks.statistics import paired_ratio, spread

MODES = ("forward", "forward+backward")
# The others cost a process each and tell the same story as eager.
QUICK_MEMORY = (OURS, EAGER)
Report = Callable[[str], None]


@dataclass
class _Measurement:
    """One case under way: what is left standing and what has been found so far."""

    op: OpBenchmark
    case: Case
    functions: dict[str, Function] = field(default_factory=dict)
    errors: list[Error] = field(default_factory=list)
    skipped: list[Skip] = field(default_factory=list)

    def skip(self, name: str, reason: str) -> None:
        """Leave `name` out from here on."""
        self.functions.pop(name, None)
        self.skipped.append(Skip(name, reason))


def run_all(
    cases: list[Case], *, label: str, command: str, quick: bool, threads: int, report: Report
) -> Results:
    """Measure every case. `report` is told, in a line each, what is done next."""
    report("environment")
    started = environment.collect(threads)
    budget = timing.QUICK if quick else timing.FULL
    rates = {}
    for case in cases:
        if case.kind not in rates and not case.memory_only:
            report(f"matrix product rate, {case.kind}")
            rates[case.kind] = gemm.measure(case, 0.5 if quick else 2.0)
    measured = [run_case(case, budget, quick, rates.get(case.kind), report) for case in cases]
    finished = replace(started, finished=environment.now(), load_after=environment.load())
    return Results(label, command, quick, finished, list(rates.values()), measured)


def run_case(
    case: Case,
    budget: timing.Budget,
    quick: bool,
    rate: gemm.GemmRate | None,
    report: Report,
) -> CaseResult:
    """Build, check, time and weigh every implementation on one case."""
    op = operator(case.op)
    state = _Measurement(op, case)
    with torch_state(case):
        _build(state, quick)
        backend = _backend(state)
        timings: list[Timing] = []
        if not case.memory_only:
            report(f"{case.title}: errors")
            _check(state, budget)
            for mode in MODES:
                report(f"{case.title}: {mode}")
                timings += _time(state, mode, budget, rate)
        names = _weighable(op, list(state.functions))
        state.functions.clear()
    weighed = [name for name in names if not quick or name in QUICK_MEMORY]
    peaks = []
    for name in weighed:
        report(f"{case.title}: memory of {name}")
        peaks.append(memory.measure(case, name))
    return CaseResult(case, backend, timings, _relative(peaks), state.errors, state.skipped)


def steps(op: OpBenchmark, case: Case, quick: bool) -> int:
    """How often `run_case` reports at most: the length of a progress bar."""
    names = _weighable(op, [one.name for one in op.implementations])
    weighed = len(QUICK_MEMORY) if quick else len(names)
    return weighed + (0 if case.memory_only else 1 + len(MODES))


def _weighable(op: OpBenchmark, names: list[str]) -> list[str]:
    """Those whose peak memory means something: a yardstick returns no gradients."""
    return [name for name in names if not op.implementation(name).yardstick]


def _build(state: _Measurement, quick: bool) -> None:
    for one in state.op.implementations:
        reason = _why_not(one, state.case, quick)
        if reason is not None:
            state.skip(one.name, reason)
            continue
        try:
            state.functions[one.name] = one.build(state.case)
        except Exception as error:
            state.skip(one.name, describe(error))


def _why_not(one: Implementation, case: Case, quick: bool) -> str | None:
    if quick and one.full_only:
        return "left out of --quick, to save the time of compiling it"
    return one.cannot_run(case.device) or memory.does_not_fit(one.bytes_needed(case), case.device)


def _backend(state: _Measurement) -> str:
    """The name of our implementation that runs: 'cpu' for the C++ kernels, 'chunked' ..."""
    from sslkernels import backends

    inputs = state.op.inputs(state.op.small(state.case), state.op.input_kinds[0])
    return backends.choose(state.case.op, inputs[0])


def _check(state: _Measurement, budget: timing.Budget) -> None:
    """Record the errors; drop what fails, computes another loss or is too slow to be timed."""
    for kind in state.op.input_kinds:
        inputs = state.op.inputs(state.case, kind)
        truth = state.op.exact(state.case, inputs)
        for name, function in list(state.functions.items()):
            if state.op.implementation(name).yardstick:
                continue
            try:
                error = accuracy.error_of(name, function, inputs, truth, kind)
            except Exception as failure:
                state.skip(name, describe(failure))
                continue
            state.errors.append(error)
            different = accuracy.is_different(error, state.case)
            if different is not None:
                state.skip(name, different)
    # Everything is compiled and warm by now.
    inputs = state.op.inputs(state.case, state.op.input_kinds[0])
    for name, function in list(state.functions.items()):
        call = partial(loss_and_gradients, function, inputs)
        seconds = timing.seconds_of(call, state.case.device)
        if seconds > budget.call_seconds and name != OURS:
            state.skip(
                name, f"one call takes {seconds:.1f} s, this run's limit is {budget.call_seconds} s"
            )


def _time(
    state: _Measurement, mode: str, budget: timing.Budget, rate: gemm.GemmRate | None
) -> list[Timing]:
    if not state.functions:
        return []
    inputs = state.op.inputs(state.case, state.op.input_kinds[0])
    calls = {name: _call(fn, inputs, mode) for name, fn in state.functions.items()}
    samples = timing.interleave(calls, budget, state.case.device)
    ours = samples.get(OURS)
    timings = []
    for name, sample in samples.items():
        p20, median, p80 = spread(sample.taken)
        gflops = state.op.flops(state.case, mode) / median / 1e9
        timings.append(
            Timing(
                implementation=name,
                mode=mode,
                median=median,
                p20=p20,
                p80=p80,
                rounds=len(sample.taken),
                calls_per_sample=sample.calls_per_sample,
                ratio=paired_ratio(sample.seconds, ours.seconds) if ours else None,
                gflops=gflops,
                gemm_percent=100.0 * gflops / rate.gflops if rate else None,
                samples=[None if one is None else float(f"{one:.5g}") for one in sample.seconds],
            )
        )
    return timings


def _call(function: Function, inputs: tuple[Tensor, ...], mode: str) -> Callable[[], object]:
    if mode == "forward+backward":
        return partial(loss_and_gradients, function, inputs)

    def forward() -> Tensor:
        with torch.no_grad():
            return function(*inputs)

    return forward


def _relative(peaks: list[Memory]) -> list[Memory]:
    """Fill in the percent of eager's peak, where eager has one."""
    eager = next((one.peak_extra_bytes for one in peaks if one.implementation == EAGER), None)
    if not eager:
        return peaks
    return [
        one
        if one.peak_extra_bytes is None
        else replace(one, percent_of_eager=100.0 * one.peak_extra_bytes / eager)
        for one in peaks
    ]
