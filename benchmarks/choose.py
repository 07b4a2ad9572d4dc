"""Which cases the options of the command line ask for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch

from benchmarks.case import Case, check_device, check_dtype, check_precision, parse_sizes
from benchmarks.errors import InputError
from benchmarks.registry import PRODUCTS, OpBenchmark, operator, operators


def chosen_cases(
    *,
    quick: bool,
    ops: Sequence[str] | None = None,
    shapes: Sequence[str] | None = None,
    dtypes: Sequence[str] | None = None,
    precisions: Sequence[str] | None = None,
    parameters: Mapping[str, float] | None = None,
    data: str | None = None,
    device: str = "cpu",
    threads: int | None = None,
) -> list[Case]:
    """The cases that the options ask for: the operators' own grid, filtered, or given shapes.

    A shape goes to the operators of `ops` that have as many sizes, without them to the first that
    has; a parameter goes to those that know it.

    Raises:
        InputError: an option has a value that the suite does not know, or no case is left.
    """
    if threads is not None and threads < 1:
        raise InputError(f"--threads: must be at least 1, got {threads}")
    check_device(device)
    wanted_dtypes = [check_dtype(name) for name in dtypes or []]
    wanted_precisions = [check_precision(name) for name in precisions or []]
    chosen = [operator(name) for name in dict.fromkeys(ops or operators())]
    if shapes:
        sizes = _sizes(chosen, shapes, every=bool(ops))
        chosen = [op for op in chosen if sizes[op.name]]
        own = _parameters(chosen, parameters or {})
        found = [
            case
            for op in chosen
            for case in op.cases(
                sizes[op.name],
                _kinds(op, wanted_dtypes, wanted_precisions),
                own[op.name],
                data or "",
            )
        ]
    elif parameters or data:
        given = next(iter([*(parameters or {}), "data"]))
        raise InputError(f"--{given}: the grid has its own, give --shape as well")
    else:
        found = [
            case
            for op in chosen
            for case in op.grid(quick)
            if (not wanted_dtypes or case.dtype in wanted_dtypes)
            and (
                not wanted_precisions
                or case.dtype != "float32"
                or not case.precision
                or case.precision in wanted_precisions
            )
        ]
    if not found:
        raise InputError("no case of the grid has that dtype and precision; give --shape as well")
    count = threads or torch.get_num_threads()
    return [replace(case, device=device, threads=count) for case in found]


def shape_help(ops: Sequence[OpBenchmark]) -> str:
    """How shapes are spelled: '2N x D as in 64x32 (nt_xent) or ...'."""
    return " or ".join(
        f"{' x '.join(op.shape_names)} as in {op.grid(quick=True)[0].shape_text} ({op.name})"
        for op in ops
    )


def _sizes(
    ops: Sequence[OpBenchmark], shapes: Sequence[str], every: bool
) -> dict[str, list[tuple[int, ...]]]:
    """The shapes of each operator; with `every`, none may be left without one."""
    found: dict[str, list[tuple[int, ...]]] = {op.name: [] for op in ops}
    for text in shapes:
        sizes = parse_sizes(text)
        fitting = [op for op in ops if sizes is not None and len(op.shape_names) == len(sizes)]
        if sizes is None or not fitting:
            raise InputError(f"--shape: got {text!r}, wanted {shape_help(ops)}")
        for op in fitting if every else fitting[:1]:
            found[op.name].append(sizes)
    without = [op for op in ops if not found[op.name]]
    if every and without:
        raise InputError(
            f"--shape: got none for {without[0].name}, wanted {shape_help(without[:1])}"
        )
    return found


def _parameters(
    ops: Sequence[OpBenchmark], given: Mapping[str, float]
) -> dict[str, dict[str, float]]:
    """Each operator's share of the given parameters."""
    for name in given:
        if not any(name in op.parameters for op in ops):
            raise InputError(f"--{name}: {' and '.join(op.name for op in ops)} has no {name}")
    return {op.name: {n: v for n, v in given.items() if n in op.parameters} for op in ops}


def _kinds(
    op: OpBenchmark, dtypes: Sequence[str], precisions: Sequence[str]
) -> list[tuple[str, str]]:
    """Every (dtype, precision) asked for."""
    for dtype in dtypes:
        if dtype not in op.dtypes:
            raise InputError(f"--dtype: {op.name} takes {', '.join(op.dtypes)}, got {dtype!r}")
    return [
        (dtype, precision)
        for dtype in dtypes or op.default_dtypes
        for precision in (_precisions(dtype, precisions) if op.counts == PRODUCTS else [""])
    ]


def _precisions(dtype: str, wanted: Sequence[str]) -> Sequence[str]:
    return (wanted or ["highest", "high"]) if dtype == "float32" else ["highest"]
