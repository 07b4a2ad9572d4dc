"""What a report says, before it is Markdown or HTML: sections of words, tables and plots."""

from __future__ import annotations

from dataclasses import dataclass, field

from benchmarks import gemm, text
from benchmarks.case import KINDS
from benchmarks.registry import COMPARED, EAGER, OURS, operators
from benchmarks.report import plots
from benchmarks.results import CaseResult, Results, Timing

BOTH = "forward+backward"


@dataclass(frozen=True)
class Cell:
    """A table cell: the figure, and a smaller remark such as its interval."""

    text: str
    detail: str = ""


@dataclass(frozen=True)
class Table:
    """The first `labels` columns name the row, the rest are figures. `folded` hides it at first."""

    columns: list[str]
    rows: list[list[Cell]]
    labels: int = 1
    folded: bool = False


@dataclass(frozen=True)
class Plot:
    """An SVG drawing and what it shows, in words."""

    svg: str
    caption: str


@dataclass(frozen=True)
class Tile:
    """A headline figure with what it means."""

    value: str
    meaning: str


@dataclass(frozen=True)
class Section:
    """A heading with its content, in the order words, plots, tables."""

    title: str
    words: list[str] = field(default_factory=list)
    plots: list[Plot] = field(default_factory=list)
    tables: list[Table] = field(default_factory=list)
    code: str = ""


@dataclass(frozen=True)
class Document:
    """The report of one run."""

    title: str
    subtitle: str
    tiles: list[Tile]
    sections: list[Section]


def document(run: Results) -> Document:
    """Everything the report says about one run."""
    sections = [
        _summary(run),
        _time(run),
        _memory(run),
        _errors(run),
        _rates(run),
        _gpu(run),
        _skipped(run),
        _environment(run),
        _reproduce(run),
    ]
    env = run.environment
    where = f"{env.gpu or env.cpu}, {env.threads} threads, torch {env.packages['torch']}"
    kind = "quick run, few rounds" if run.quick else "full run"
    return Document(
        title=run.label,
        subtitle=f"{where}, {env.started[:10]}, {kind}",
        tiles=_tiles(run),
        sections=[section for section in sections if section is not None],
    )


def label(name: str) -> str:
    """An implementation's name for people; the name itself when the suite no longer has it."""
    for op in operators().values():
        for one in op.implementations:
            if one.name == name:
                return one.label
    return name


def _cells(*values: str) -> list[Cell]:
    return [Cell(value) for value in values]


def _timings(result: CaseResult, mode: str) -> dict[str, Timing]:
    return {t.implementation: t for t in result.timings if t.mode == mode}


def _timed(run: Results) -> list[CaseResult]:
    return [result for result in run.cases if result.timings]


def _range(values: list[float], unit: str) -> str:
    low, high = text.significant(min(values), 2), text.significant(max(values), 2)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _tiles(run: Results) -> list[Tile]:
    tiles = []
    for name in COMPARED:
        ratios = [
            timing.ratio.median
            for result in run.cases
            for timing in result.timings
            if (timing.implementation, timing.mode) == (name, BOTH) and timing.ratio
        ]
        if ratios:
            meaning = f"time of {label(name)} / ours, forward + backward, {len(ratios)} cases"
            tiles.append(Tile(_range(ratios, "x"), meaning))
    weighed = [
        (result.case, memory.percent_of_eager)
        for result in run.cases
        for memory in result.memory
        if memory.implementation == OURS and memory.percent_of_eager is not None
    ]
    if weighed:
        case, percent = max(weighed, key=lambda pair: pair[0].shape[0])
        meaning = f"of eager's peak extra memory at {case.shape_text}, {case.kind}"
        tiles.append(Tile(f"{text.significant(percent, 2)} %", meaning))
    worse = _worst_error_ratio(run)
    if worse is not None:
        meaning = "largest gradient error against float64, ours / eager's at the same setting"
        tiles.append(Tile(f"{text.significant(worse, 2)}x", meaning))
    return tiles


def _worst_error_ratio(run: Results) -> float | None:
    """Over the kinds that promise eager's accuracy: 'high' trades it away on purpose."""
    found = []
    for result in run.cases:
        if result.case.kind in ("float32 high", "float32 medium"):
            continue
        by_name = {(e.implementation, e.views): e.gradient for e in result.errors}
        for (name, views), ours in by_name.items():
            eager = by_name.get((EAGER, views))
            if name == OURS and eager:
                found.append(ours / eager)
    return max(found, default=None)


def _summary(run: Results) -> Section | None:
    """The ratios to eager and torch.compile: shapes down, dtype and precision across."""
    timed = _timed(run)
    if not timed:
        return None
    kinds = sorted({result.case.kind for result in timed}, key=KINDS.index)
    measured = {timing.implementation for result in timed for timing in result.timings}
    baselines = [name for name in COMPARED if name in measured]
    columns = ["op", "shape"] + [f"{kind}: {label(n)}" for kind in kinds for n in baselines]
    rows = []
    for op, shape in dict.fromkeys((r.case.op, r.case.shape_text) for r in timed):
        row = _cells(op, shape)
        for kind in kinds:
            result = next(
                (
                    r
                    for r in timed
                    if (r.case.op, r.case.shape_text, r.case.kind) == (op, shape, kind)
                ),
                None,
            )
            both = _timings(result, BOTH) if result else {}
            row += [_ratio(both.get(name)) for name in baselines]
        rows.append(row)
    words = [
        "How many times as long a baseline takes as sslkernels, forward + backward: above 1 means "
        "that sslkernels is faster. Medians of ratios paired within interleaved rounds, with "
        "95 % bootstrap intervals.",
        *_shape_words(run),
        *_fallback(run),
        *_busy(run),
    ]
    caption = "The same ratios with their intervals, logarithmic scale, all baselines."
    return Section("Summary", words, _plot(plots.ratios(run), caption), [Table(columns, rows, 2)])


def _fallback(run: Results) -> list[str]:
    """A warning when plain PyTorch ran in place of our kernels."""
    slow = [result.backend for result in run.cases if result.backend in ("chunked", "reference")]
    if not slow:
        return []
    return [
        f"Warning: in {len(slow)} of {len(run.cases)} cases sslkernels ran its plain PyTorch "
        f"implementation ({', '.join(sorted(set(slow)))}) and not its kernels."
    ]


def _busy(run: Results) -> list[str]:
    """A warning when something else had the cores as the run began."""
    env = run.environment
    if env.load_before is None or env.load_before <= 0.5 * env.cores:
        return []
    return [
        f"Warning: the machine was busy when this run began (load average {env.load_before:g} on "
        f"{env.cores} cores). With that, even ratios are not to be relied on."
    ]


def _shape_words(run: Results) -> list[str]:
    known = operators()
    names = [n for n in dict.fromkeys(r.case.op for r in run.cases) if n in known]
    words = []
    for name in names:
        parameters = next(r.case.parameters for r in run.cases if r.case.op == name)
        settings = ", ".join(f"{key} {value:g}" for key, value in parameters.items())
        shape = " x ".join(known[name].shape_names)
        words.append(f"{name}: {known[name].title}, shapes are {shape}, {settings}.")
    return words


def _ratio(timing: Timing | None) -> Cell:
    if timing is None or timing.ratio is None:
        return Cell("-")
    return Cell(text.times(timing.ratio), text.bounds(timing.ratio))


def _plot(svg: str | None, caption: str) -> list[Plot]:
    return [Plot(svg, caption)] if svg else []


def _time(run: Results) -> Section | None:
    rows = []
    for result in _timed(run):
        for timing in result.timings:
            case = result.case
            percent = "-" if timing.gemm_percent is None else f"{timing.gemm_percent:.0f} %"
            rows.append(
                [
                    *_cells(case.op, case.shape_text, case.kind, timing.mode),
                    Cell(label(timing.implementation)),
                    Cell(
                        text.seconds(timing.median),
                        f"{text.seconds(timing.p20)} to {text.seconds(timing.p80)}",
                    ),
                    _ratio(timing) if timing.implementation != OURS else Cell("1"),
                    *_cells(text.significant(timing.gflops), percent, str(timing.rounds)),
                ]
            )
    if not rows:
        return None
    columns = [
        "op",
        "shape",
        "dtype",
        "mode",
        "implementation",
        "median (p20 to p80)",
        "time / ours",
        "useful GF/s",
        "of GEMM",
        "rounds",
    ]
    caption = "Median seconds of forward + backward against the number of rows, log-log."
    words = [
        "Every round runs each implementation once in a random order, in one process, with the "
        "garbage collector off; short calls are repeated within a round.",
    ]
    table = Table(columns, rows, 5, folded=True)
    return Section("Time", words, _plot(plots.times(run), caption), [table])


def _memory(run: Results) -> Section | None:
    rows = []
    for result in run.cases:
        reasons = [(s.implementation, s.reason) for s in result.skipped if result.case.memory_only]
        for memory in result.memory:
            peak, percent, took = memory.peak_extra_bytes, memory.percent_of_eager, memory.seconds
            rows.append(
                [
                    *_cells(result.case.op, result.case.shape_text, result.case.kind),
                    Cell(label(memory.implementation)),
                    Cell("-" if peak is None else text.size(peak)),
                    Cell("-" if percent is None else f"{text.significant(percent)} %"),
                    Cell("-" if took is None else text.seconds(took)),
                    Cell(memory.reason or ""),
                ]
            )
        for name, reason in reasons:
            rows.append(
                [
                    *_cells(result.case.op, result.case.shape_text, result.case.kind),
                    *_cells(label(name), "-", "-", "-", reason),
                ]
            )
    if not rows:
        return None
    methods = {m.method for result in run.cases for m in result.memory if m.method}
    words = [
        "Extra memory at the peak of one forward + backward, above the inputs and the gradients "
        "that every implementation returns. Each figure comes from a process of its own, "
        f"measured as {' or '.join(sorted(methods)) or 'nothing: no measurement succeeded'}; "
        "differences below about 1 MiB are noise. The seconds are one warm call there: for "
        "orientation only."
    ]
    columns = [
        "op",
        "shape",
        "dtype",
        "implementation",
        "peak extra",
        "of eager's",
        "one call",
        "why not",
    ]
    caption = "Peak extra memory of forward + backward against the number of rows, log-log."
    table = Table(columns, rows, 4, folded=True)
    return Section("Memory", words, _plot(plots.memory(run), caption), [table])


def _errors(run: Results) -> Section | None:
    rows = [
        [
            *_cells(result.case.op, result.case.shape_text, result.case.kind, error.views),
            Cell(label(error.implementation)),
            *_cells(text.error(error.loss), text.error(error.gradient)),
        ]
        for result in run.cases
        for error in result.errors
    ]
    if not rows:
        return None
    words = [
        "Against the same loss in float64 on the inputs as rounded to the dtype: relative error "
        "of the loss, and relative Frobenius error of all gradients together. Correlated views "
        "are z2 = z1 + 0.5 noise, independent ones share nothing."
    ]
    columns = ["op", "shape", "dtype", "views", "implementation", "loss", "gradient"]
    caption = "Error against float64; filled: correlated views, hollow: independent views."
    table = Table(columns, rows, 5, folded=True)
    return Section("Error against float64", words, _plot(plots.errors(run), caption), [table])


def _rates(run: Results) -> Section | None:
    if not run.gemm:
        return None
    known = operators()
    names = [n for n in dict.fromkeys(r.case.op for r in run.cases) if n in known]
    words = [f"{name}: {known[name].work_note}" for name in names]
    words.append(gemm.NOTE)
    rows = [_cells(rate.kind, text.significant(rate.gflops), rate.shape) for rate in run.gemm]
    table = Table(["dtype", "best torch.mm GF/s", "reached at"], rows)
    return Section("What GF/s and percent of GEMM mean", words, [], [table])


def _gpu(run: Results) -> Section:
    gpu = run.environment.gpu
    if gpu and any(result.case.device.startswith("cuda") for result in run.cases):
        return Section("GPU", [f"Cases on device cuda were measured on {gpu}."])
    why = "this run was on the CPU" if gpu else "the machine of this run has no GPU"
    return Section("GPU", [f"Not measured: {why}. Where there is one, run with --device cuda."])


def _skipped(run: Results) -> Section | None:
    """One row for each reason, with the cases it applies to."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for result in run.cases:
        for skip in result.skipped:
            where = f"{result.case.shape_text} {result.case.kind}"
            reasons.setdefault((skip.implementation, skip.reason), []).append(where)
    if not reasons:
        return None
    rows = [
        _cells(label(name), reason, "all" if len(cases) == len(run.cases) else ", ".join(cases))
        for (name, reason), cases in reasons.items()
    ]
    return Section("Left out", [], [], [Table(["implementation", "reason", "cases"], rows, 3)])


def _environment(run: Results) -> Section:
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
    rows = [_cells(name, value) for name, value in facts.items()]
    return Section("Environment", [], [], [Table(["what", "value"], rows, 2)])


def _reproduce(run: Results) -> Section:
    variables = "".join(f"{k}={v} " for k, v in run.environment.variables.items())
    code = f"pip install -e '.[bench]'\n{variables}{run.command}\npython -m benchmarks report"
    return Section(
        "How to reproduce", ["From a checkout, on an otherwise idle machine:"], code=code
    )
