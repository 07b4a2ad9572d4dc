"""Runs the cases one after the other and puts the measurements together."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from benchmarks import accuracy, copying, environment, gemm, memory, timing
from benchmarks.accuracy import Error
from benchmarks.case import Case, torch_state
from benchmarks.copying import CopyRate
from benchmarks.errors import Unsuitable, describe
from benchmarks.exactness import Exactness
from benchmarks.gemm import GemmRate
from benchmarks.memory import Memory
from benchmarks.registry import (
    BOTH,
    EAGER,
    FORWARD,
    OURS,
    PRODUCTS,
    Function,
    Implementation,
    LossBenchmark,
    OpBenchmark,
    RandomBenchmark,
    loss_and_gradients,
    operator,
)
from benchmarks.results import CaseResult, Results, Skip, Timing
from benchmarks.statistics import paired_ratio, spread

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
    exactness: list[Exactness] = field(default_factory=list)
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
    products: list[GemmRate] = []
    copies: list[CopyRate] = []
    rates: dict[str | int, GemmRate | CopyRate] = {}
    for key, case in wanted_rates(cases).items():
        if isinstance(key, int):
            report(f"copy rate, {key} bytes")
            copies.append(copying.measure(case, key, 0.2 if quick else 1.0))
            rates[key] = copies[-1]
        else:
            report(f"matrix product rate, {key}")
            products.append(gemm.measure(case, 0.5 if quick else 2.0))
            rates[key] = products[-1]
    measured = [
        run_case(case, budget, quick, rates.get(_held_against(case)), report) for case in cases
    ]
    finished = replace(started, finished=environment.now(), load_after=environment.load())
    return Results(label, command, quick, finished, products, measured, copies)


def wanted_rates(cases: list[Case]) -> dict[str | int, Case]:
    """The rates of this machine that the cases are held against, each with a case to measure it in.

    A matrix product rate goes by its kind, a copy rate by the bytes read and written.
    """
    found: dict[str | int, Case] = {}
    for case in cases:
        if not case.memory_only:
            found.setdefault(_held_against(case), case)
    return found


def _held_against(case: Case) -> str | int:
    op = operator(case.op)
    return case.kind if op.counts == PRODUCTS else int(op.work(case, FORWARD))


def run_case(
    case: Case,
    budget: timing.Budget,
    quick: bool,
    rate: GemmRate | CopyRate | None,
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
            for mode in op.modes(case):
                report(f"{case.title}: {mode}")
                timings += _time(state, mode, budget, rate)
        names = _weighable(op, list(state.functions))
        state.functions.clear()
    weighed = [name for name in names if not quick or name in _quick_memory(op)]
    peaks = []
    for name in weighed:
        report(f"{case.title}: memory of {name}")
        peaks.append(memory.measure(case, name))
    return CaseResult(
        case, backend, timings, _relative(peaks), state.errors, state.skipped, state.exactness
    )


def steps(op: OpBenchmark, case: Case, quick: bool) -> int:
    """How often `run_case` reports at most: the length of a progress bar."""
    names = _weighable(op, [one.name for one in op.implementations])
    weighed = len(_quick_memory(op)) if quick else len(names)
    return weighed + (0 if case.memory_only else 1 + len(op.modes(case)))


def _quick_memory(op: OpBenchmark) -> tuple[str, ...]:
    return QUICK_MEMORY if op.quick_memory else ()


def _weighable(op: OpBenchmark, names: list[str]) -> list[str]:
    """Those whose peak memory means something: a yardstick returns no gradients."""
    found = {name: op.implementation(name) for name in names}
    return [name for name, one in found.items() if not (one.yardstick or one.processes)]


def _build(state: _Measurement, quick: bool) -> None:
    for one in state.op.implementations:
        reason = _why_not(one, state.case, quick)
        if reason is not None:
            state.skip(one.name, reason)
            continue
        try:
            state.functions[one.name] = one.build(state.case)
        except Unsuitable as why:
            state.skip(one.name, str(why))
        except Exception as error:
            state.skip(one.name, describe(error))


def _why_not(one: Implementation, case: Case, quick: bool) -> str | None:
    if quick and one.full_only:
        what = "compiling" if one.compiled else "loading"
        return f"left out of --quick, to save the time of {what} it"
    return one.cannot_run(case.device) or memory.does_not_fit(one.bytes_needed(case), case.device)


def _backend(state: _Measurement) -> str:
    """The name of our implementation that runs: 'cpu' for the C++ kernels, 'chunked' ..."""
    from sslkernels import backends

    inputs = state.op.inputs(state.op.small(state.case), state.op.kinds(state.case)[0])
    return backends.choose(state.op.calls or state.op.name, inputs[0])


def _check(state: _Measurement, budget: timing.Budget) -> None:
    """Record the errors; drop what fails, computes another loss or is too slow to be timed."""
    op = state.op
    if isinstance(op, LossBenchmark):
        _check_loss(op, state)
    if isinstance(op, RandomBenchmark):
        state.exactness = op.exactness(state.case)
    inputs = op.inputs(state.case, op.kinds(state.case)[0])
    upstream = op.upstream(state.case)
    for name, function in list(state.functions.items()):
        call = partial(loss_and_gradients, function, inputs, upstream)
        try:
            seconds = timing.seconds_of(call, state.case.device)
            # All that has a loss to check is warm by now; the rest had its first call here.
            if not isinstance(op, LossBenchmark) and seconds > budget.call_seconds:
                seconds = timing.seconds_of(call, state.case.device)
        except Exception as failure:
            state.skip(name, describe(failure))
            continue
        if seconds > budget.call_seconds and name != OURS:
            state.skip(
                name, f"one call takes {seconds:.1f} s, this run's limit is {budget.call_seconds} s"
            )


def _check_loss(op: LossBenchmark, state: _Measurement) -> None:
    """Against float64, on each kind of inputs."""
    for kind in op.kinds(state.case):
        inputs = op.inputs(state.case, kind)
        truth = op.exact(state.case, inputs)
        for name, function in list(state.functions.items()):
            if op.implementation(name).yardstick:
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


def _time(
    state: _Measurement, mode: str, budget: timing.Budget, rate: GemmRate | CopyRate | None
) -> list[Timing]:
    if not state.functions:
        return []
    inputs = state.op.inputs(state.case, state.op.kinds(state.case)[0])
    upstream = state.op.upstream(state.case) if mode == BOTH else None
    calls = {name: _call(fn, inputs, mode, upstream) for name, fn in state.functions.items()}
    samples = timing.interleave(calls, budget, state.case.device)
    ours = samples.get(OURS)
    timings = []
    for name, sample in samples.items():
        p20, median, p80 = spread(sample.taken)
        done = state.op.work(state.case, mode) / median / 1e9
        flops = state.op.counts == PRODUCTS
        percent = 100.0 * done / _giga(rate) if rate else None
        items = state.op.items(state.case)
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
                gflops=done if flops else None,
                gemm_percent=percent if flops else None,
                samples=[None if one is None else float(f"{one:.5g}") for one in sample.seconds],
                gbytes_per_second=None if flops else done,
                copy_percent=None if flops else percent,
                items_per_second=items / median if items else None,
            )
        )
    return timings


def _giga(rate: GemmRate | CopyRate) -> float:
    return rate.gflops if isinstance(rate, GemmRate) else rate.gbytes_per_second


def _call(
    function: Function, inputs: tuple[Tensor, ...], mode: str, upstream: Tensor | None
) -> Callable[[], object]:
    if mode == BOTH:
        return partial(loss_and_gradients, function, inputs, upstream)

    def forward() -> object:
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
