"""The sections of where figures come from, and what there is none of."""

from __future__ import annotations

from benchmarks.registry import label, operators
from benchmarks.report.parts import Section, Table
from benchmarks.report.shared import by_op, cells
from benchmarks.results import Results


def gpu_section(run: Results) -> Section:
    """Which GPU was measured, or that none was."""
    gpu = run.environment.gpu
    if gpu and any(result.case.device.startswith("cuda") for result in run.cases):
        return Section("GPU", [f"Cases on device cuda were measured on {gpu}."])
    why = "this run was on the CPU" if gpu else "the machine of this run has no GPU"
    return Section("GPU", [f"Not measured: {why}. Where there is one, run with --device cuda."])


def skipped_section(run: Results) -> Section | None:
    """One row for each reason, with the cases it applies to."""
    rows = []
    for op, part in by_op(run).items():
        reasons: dict[tuple[str, str], list[str]] = {}
        for result in part.cases:
            for skip in result.skipped:
                case = result.case
                where = f"{case.shape_text} {case.kind} {case.data}".rstrip()
                reasons.setdefault((skip.implementation, skip.reason), []).append(where)
        for (name, reason), cases in reasons.items():
            where = "all" if len(cases) == len(part.cases) else ", ".join(cases)
            rows.append(cells(op, label(op, name), reason, where))
    if not rows:
        return None
    columns = ["op", "implementation", "reason", "cases"]
    return Section("Left out", [], [], [Table(columns, rows, 4)])


def environment_section(run: Results) -> Section:
    """The machine, the versions and the settings."""
    env = run.environment
    backends = dict.fromkeys(f"{result.case.op}: {result.backend}" for result in run.cases)
    dirty = {True: ", with uncommitted changes", False: "", None: ""}[env.dirty]
    loads = [f"{load:g}" for load in (env.load_before, env.load_after) if load is not None]
    facts = {
        "CPU": f"{env.cpu}, {env.cores} cores",
        "instruction sets": " ".join(env.flags) or "unknown",
        "torch CPU capability": env.torch_capability,
        "sslkernels C++ kernels": env.sslkernels_isa,
        "implementation that ran": ", ".join(backends),
        "GPU": env.gpu or "none",
        "threads": str(env.threads),
        "system": f"{env.system}, Python {env.python}",
        "packages": ", ".join(f"{name} {version}" for name, version in env.packages.items()),
        "environment variables": ", ".join(f"{k}={v}" for k, v in env.variables.items()) or "none",
        "commit": f"{env.commit}{dirty}" if env.commit else "unknown",
        "time": f"{env.started} to {env.finished}",
        "load average": " before, ".join(loads) + " after" if len(loads) == 2 else "unknown",
    }
    rows = [cells(name, value) for name, value in facts.items()]
    return Section("Environment", [], [], [Table(["what", "value"], rows, 2)])


def reproduce_section(run: Results) -> Section:
    """The command that makes these results."""
    variables = "".join(f"{k}={v} " for k, v in run.environment.variables.items())
    known = operators()
    extras = dict.fromkeys(e for op in by_op(run) if op in known for e in known[op].extras)
    wanted = ",".join(extras) or "bench"
    code = f"pip install -e '.[{wanted}]'\n{variables}{run.command}\npython -m benchmarks report"
    return Section(
        "How to reproduce", ["From a checkout, on an otherwise idle machine:"], code=code
    )
