"""The child process of `memory.measure`: one case on stdin, one line of JSON on stdout."""

from __future__ import annotations

import gc
import json
import sys
import time

from benchmarks.case import Case, synchronize, torch_state
from benchmarks.memory import peak_of
from benchmarks.registry import Implementation, OpBenchmark, loss_and_gradients, operator, trained


def run(op: OpBenchmark, case: Case, implementation: Implementation) -> dict[str, object]:
    """The peak of two steps (the first allocates what is cached), and the time of the second."""
    function = implementation.build(case)
    # Code pages and thread stacks count for nobody. A compiler has to see the real shape for that;
    # anything else must not, since a cached workspace belongs to the step.
    warm = case if implementation.compiled else op.small(case)
    loss_and_gradients(function, op.inputs(warm, op.input_kinds[0]))
    gc.collect()
    inputs = op.inputs(case, op.input_kinds[0])
    seconds = 0.0

    def steps() -> None:
        nonlocal seconds
        for _ in range(2):
            synchronize(case.device)
            start = time.perf_counter()
            loss_and_gradients(function, inputs)
            synchronize(case.device)
            seconds = time.perf_counter() - start

    peak, method = peak_of(steps, case.device)
    gradients = sum(value.numel() * value.element_size() for value in trained(inputs))
    return {"peak_extra_bytes": max(peak - gradients, 0), "seconds": seconds, "method": method}


def main() -> None:
    """Read the request, measure, print."""
    request = json.load(sys.stdin)
    case = Case(**request["case"] | {"shape": tuple(request["case"]["shape"])})
    op = operator(case.op)
    with torch_state(case):
        measured = run(op, case, op.implementation(request["implementation"]))
    print(json.dumps(measured))


if __name__ == "__main__":
    main()
