"""The child process of `memory.measure`: one case on stdin, one line of JSON on stdout."""

from __future__ import annotations

import gc
import json
import sys
import time

from torch import Tensor

from benchmarks.case import Case, synchronize, torch_state
from benchmarks.memory import peak_of
from benchmarks.registry import Implementation, OpBenchmark, loss_and_gradients, operator


def run(op: OpBenchmark, case: Case, implementation: Implementation) -> dict[str, object]:
    """The peak of two steps (the first allocates what is cached), and the time of the second."""
    function = implementation.build(case)
    # Code pages and thread stacks count for nobody. A compiler has to see the real shape for that;
    # anything else must not, since a cached workspace belongs to the step.
    warm = case if implementation.compiled else op.small(case)
    loss_and_gradients(function, op.inputs(warm, op.kinds(warm)[0]), op.upstream(warm))
    gc.collect()
    inputs, upstream = op.inputs(case, op.kinds(case)[0]), op.upstream(case)
    seconds, returned = 0.0, 0

    def steps() -> None:
        nonlocal seconds, returned
        for _ in range(2):
            synchronize(case.device)
            start = time.perf_counter()
            result, gradients = loss_and_gradients(function, inputs, upstream)
            synchronize(case.device)
            seconds = time.perf_counter() - start
            returned = size_of(result) + size_of(gradients)
            del result, gradients

    peak, method = peak_of(steps, case.device)
    return {"peak_extra_bytes": max(peak - returned, 0), "seconds": seconds, "method": method}


def size_of(value: Tensor | tuple[Tensor, ...]) -> int:
    """Bytes of a tensor, or of all in a tuple."""
    if isinstance(value, Tensor):
        return value.numel() * value.element_size()
    return sum(map(size_of, value))


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
