"""What a reader must know before the tables: shapes, settings, warnings."""

from __future__ import annotations

from benchmarks import text
from benchmarks.registry import BOTH, headline, operators
from benchmarks.report.shared import by_op
from benchmarks.results import Results


def headlines(run: Results) -> str:
    """The mode of the summary, with the operators where it is another."""
    modes = {op: text.mode(headline(op)) for op in by_op(run)}
    usual = text.mode(BOTH) if text.mode(BOTH) in modes.values() else next(iter(modes.values()))
    others = [f"{op}: {mode}" for op, mode in modes.items() if mode != usual]
    return f"{usual} ({', '.join(others)})" if others else usual


def shape_words(run: Results) -> list[str]:
    """What each operator is, its shapes and its settings, a paragraph an operator."""
    known = operators()
    words = []
    for op, part in by_op(run).items():
        if op not in known:
            continue
        settings: dict[str, list[str]] = {}
        for result in part.cases:
            for name, value in result.case.parameters.items():
                settings.setdefault(name, []).append(f"{value:g}")
        values = [f"{name} {' or '.join(dict.fromkeys(found))}" for name, found in settings.items()]
        shape = " x ".join(known[op].shape_names)
        words.append(f"{op}: {known[op].title}, shapes are {shape}, {', '.join(values)}.")
    return words


def yardsticks(run: Results) -> list[str]:
    """What is shown beside the baselines and is none."""
    known = operators()
    measured = {(r.case.op, t.implementation) for r in run.cases for t in r.timings}
    return [
        f"{op}: {one.label} is no contender, but the time that the matrix products of a dense "
        "forward + backward take through torch when nothing else is done."
        for op in by_op(run)
        for one in (known[op].implementations if op in known else ())
        if one.yardstick and (op, one.name) in measured
    ]


def remarks(run: Results) -> list[str]:
    """What a reader must know of those that were measured, a paragraph an operator."""
    known = operators()
    measured = {(r.case.op, t.implementation) for r in run.cases for t in r.timings}
    words = []
    for op in by_op(run):
        notes = [
            f"{one.label}: {one.note}."
            for one in (known[op].implementations if op in known else ())
            if one.note and (op, one.name) in measured
        ]
        if notes:
            words.append(f"{op}: {' '.join(notes)}")
    return words


def fallback(run: Results) -> list[str]:
    """A warning when plain PyTorch ran in place of our kernels."""
    slow = [result.backend for result in run.cases if result.backend in ("chunked", "reference")]
    if not slow:
        return []
    return [
        f"Warning: in {len(slow)} of {len(run.cases)} cases sslkernels ran its plain PyTorch "
        f"implementation ({', '.join(sorted(set(slow)))}) and not its kernels."
    ]


def busy(run: Results) -> list[str]:
    """A warning when something else had the cores as the run began."""
    env = run.environment
    if env.load_before is None or env.load_before <= 0.5 * env.cores:
        return []
    return [
        f"Warning: the machine was busy when this run began (load average {env.load_before:g} on "
        f"{env.cores} cores). With that, even ratios are not to be relied on."
    ]
