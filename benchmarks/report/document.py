"""What a report says, before it is Markdown or HTML: sections of words, tables and plots."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

from benchmarks import copying, gemm, text
from benchmarks.registry import (
    BOTH,
    EAGER,
    FORWARD,
    OURS,
    compared,
    eager_word,
    headline,
    label,
    operators,
)
from benchmarks.report import plots
from benchmarks.results import CaseResult, Results, Timing, told


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
        _backward(run),
        _memory(run),
        _errors(run),
        _exactness(run),
        _rates(run),
        _copies(run),
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


def _cells(*values: str) -> list[Cell]:
    return [Cell(value) for value in values]


def _timings(result: CaseResult, mode: str) -> dict[str, Timing]:
    return {t.implementation: t for t in result.timings if t.mode == mode}


def _timed(run: Results) -> list[CaseResult]:
    return [result for result in run.cases if result.timings]


def _range(values: list[float], unit: str) -> str:
    low, high = text.significant(min(values), 2), text.significant(max(values), 2)
    return f"{low}{unit}" if low == high else f"{low} to {high}{unit}"


def _by_op(run: Results) -> dict[str, Results]:
    """The run as if each operator had one of its own: their shapes and baselines differ."""
    return {
        op: replace(run, cases=[result for result in run.cases if result.case.op == op])
        for op in dict.fromkeys(result.case.op for result in run.cases)
    }


def _counts_bytes(run: Results) -> bool:
    """Whether the rates are of bytes, and not of flops."""
    return any(t.gbytes_per_second is not None for result in run.cases for t in result.timings)


def _parts(run: Results) -> list[Results]:
    """The run in two, as operators count flops or bytes: their tables have other columns."""
    ops = _by_op(run)
    found = []
    for counts in (False, True):
        chosen = [op for op, part in ops.items() if _counts_bytes(part) == counts]
        cases = [result for result in run.cases if result.case.op in chosen]
        if cases:
            found.append(replace(run, cases=cases))
    return found


def _plots(run: Results, draw: Callable[[Results], str | None], caption: str) -> list[Plot]:
    """One drawing an operator, where there is something to draw."""
    drawn = [(op, draw(part)) for op, part in _by_op(run).items()]
    return [Plot(svg, f"{op}: {caption}") for op, svg in drawn if svg]


def _tiles(run: Results) -> list[Tile]:
    tiles = [tile for op, part in _by_op(run).items() for tile in _op_tiles(op, part)]
    worse = _worst_error_ratio(run)
    if worse is not None:
        meaning = "largest gradient error against float64, ours / eager's at the same setting"
        tiles.append(Tile(f"{text.significant(worse, 2)}x", meaning))
    return tiles


def _op_tiles(op: str, run: Results) -> list[Tile]:
    tiles = []
    for name in compared(op):
        ratios = [
            timing.ratio.median
            for result in run.cases
            for timing in result.timings
            if (timing.implementation, timing.mode) == (name, headline(op)) and timing.ratio
        ]
        if ratios:
            meaning = f"{op}: time of {label(op, name)} / ours, {text.mode(headline(op))}"
            count = f"{len(ratios)} case{'s' if len(ratios) > 1 else ''}"
            tiles.append(Tile(_range(ratios, "x"), f"{meaning}, {count}"))
    weighed = [
        (result.case, memory.percent_of_eager)
        for result in run.cases
        for memory in result.memory
        if memory.implementation == OURS and memory.percent_of_eager is not None
    ]
    if weighed:
        case, percent = max(weighed, key=lambda pair: pair[0].shape[0])
        word = eager_word(op)
        meaning = f"{op}: of {word}'s peak extra memory at {case.shape_text}, {case.kind}"
        tiles.append(Tile(f"{text.significant(percent, 2)} %", meaning))
    errors = [
        one.error
        for result in run.cases
        for one in result.exactness
        if one.implementation == OURS and one.error is not None
    ]
    if errors:
        meaning = f"{op}: our largest error against float64, over all stages, of a pixel in 0 ... 1"
        tiles.append(Tile(text.error(max(errors)), meaning))
    return tiles


def _worst_error_ratio(run: Results) -> float | None:
    """Over the kinds that promise eager's accuracy: 'high' trades it away on purpose."""
    found = []
    for result in run.cases:
        if result.case.kind in ("float32 high", "float32 medium"):
            continue
        by_name = {(e.implementation, e.inputs): e.gradient for e in result.errors}
        for (name, inputs), ours in by_name.items():
            eager = by_name.get((EAGER, inputs))
            if name == OURS and eager:
                found.append(ours / eager)
    return max(found, default=None)


def _summary(run: Results) -> Section | None:
    """The ratios to the baselines that matter most, a table an operator, a row a case."""
    tables = [_summary_table(op, part) for op, part in _by_op(run).items() if _timed(part)]
    if not tables:
        return None
    words = [
        f"How many times as long a baseline takes as sslkernels, {_headlines(run)}: above 1 means "
        "that sslkernels is faster. Medians of ratios paired within interleaved rounds, with "
        "95 % bootstrap intervals.",
        *_shape_words(run),
        *_yardsticks(run),
        *_notes(run),
        *_fallback(run),
        *_busy(run),
    ]
    caption = "the same ratios with their intervals, logarithmic scale, all baselines."
    return Section("Summary", words, _plots(run, plots.ratios, caption), tables)


def _headlines(run: Results) -> str:
    """The mode of the summary, with the operators where it is another."""
    modes = {op: text.mode(headline(op)) for op in _by_op(run)}
    usual = text.mode(BOTH) if text.mode(BOTH) in modes.values() else next(iter(modes.values()))
    others = [f"{op}: {mode}" for op, mode in modes.items() if mode != usual]
    return f"{usual} ({', '.join(others)})" if others else usual


def _notes(run: Results) -> list[str]:
    """What a reader must know of those that were measured, a paragraph an operator."""
    known = operators()
    measured = {(r.case.op, t.implementation) for r in run.cases for t in r.timings}
    words = []
    for op in _by_op(run):
        notes = [
            f"{one.label}: {one.note}."
            for one in (known[op].implementations if op in known else ())
            if one.note and (op, one.name) in measured
        ]
        if notes:
            words.append(f"{op}: {' '.join(notes)}")
    return words


def _summary_table(op: str, run: Results) -> Table:
    timed = _timed(run)
    measured = {timing.implementation for result in timed for timing in result.timings}
    baselines = [name for name in compared(op) if name in measured]
    counts_bytes = _counts_bytes(run)
    rows = []
    for result in timed:
        own = _timings(result, headline(op))
        ratios = [_ratio(own.get(name)) for name in baselines]
        rates = [_bytes_rate(own.get(OURS), op)] if counts_bytes else []
        rows.append([Cell(op), _shape(result, run), Cell(result.case.kind), *rates, *ratios])
    columns = ["op", "shape", "dtype", *(["sslkernels' rate"] if counts_bytes else [])]
    return Table([*columns, *(label(op, name) for name in baselines)], rows, 3)


def _bytes_rate(timing: Timing | None, op: str) -> Cell:
    """What is made a second, with GB/s and percent of copy."""
    if timing is None or timing.gbytes_per_second is None:
        return Cell("-")
    rate = f"{text.significant(timing.gbytes_per_second)} GB/s"
    percent = "" if timing.copy_percent is None else f", {timing.copy_percent:.0f} % of copy"
    return Cell(_items(timing, op), rate + percent)


def _percent(timing: Timing) -> str:
    """Of a matrix product's rate, or of a copy's, which slow ones hardly have a share of."""
    if timing.copy_percent is not None:
        return f"{text.significant(timing.copy_percent, 2)} %"
    return "-" if timing.gemm_percent is None else f"{timing.gemm_percent:.0f} %"


def _items(timing: Timing, op: str) -> str:
    known = operators()
    if timing.items_per_second is None:
        return "-"
    unit = f" {known[op].item}/s" if op in known else "/s"
    return text.thousands(timing.items_per_second) + unit


def _shape(result: CaseResult, run: Results) -> Cell:
    """The shape, with those parameters that are not the same in all cases of the operator."""
    return Cell(result.case.shape_text, ", ".join(told(result.case, run.cases)))


def _yardsticks(run: Results) -> list[str]:
    """What is shown beside the baselines and is none."""
    known = operators()
    measured = {(r.case.op, t.implementation) for r in run.cases for t in r.timings}
    return [
        f"{op}: {one.label} is no contender, but the time that the matrix products of a dense "
        "forward + backward take through torch when nothing else is done."
        for op in _by_op(run)
        for one in (known[op].implementations if op in known else ())
        if one.yardstick and (op, one.name) in measured
    ]


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
    words = []
    for op, part in _by_op(run).items():
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


def _ratio(timing: Timing | None) -> Cell:
    if timing is None or timing.ratio is None:
        return Cell("-")
    return Cell(text.times(timing.ratio), text.bounds(timing.ratio))


def _time(run: Results) -> Section | None:
    tables = [_time_table(part) for part in _parts(run) if _timed(part)]
    if not tables:
        return None
    modes = " and of ".join(dict.fromkeys(text.mode(headline(op)) for op in _by_op(run)))
    caption = f"median seconds of {modes} against the number of rows, log-log."
    words = [
        "Every round runs each implementation once in a random order, in one process, with the "
        "garbage collector off; short calls are repeated within a round.",
    ]
    return Section("Time", words, _plots(run, plots.times, caption), tables)


def _time_table(run: Results) -> Table:
    counts_bytes = _counts_bytes(run)
    rows = []
    for result in _timed(run):
        for timing in result.timings:
            case = result.case
            rate = timing.gbytes_per_second if counts_bytes else timing.gflops
            percent = _percent(timing)
            made = [_items(timing, case.op)] if counts_bytes else []
            rows.append(
                [
                    Cell(case.op),
                    _shape(result, run),
                    *_cells(case.kind, timing.mode, label(case.op, timing.implementation)),
                    Cell(
                        text.seconds(timing.median),
                        f"{text.seconds(timing.p20)} to {text.seconds(timing.p80)}",
                    ),
                    _ratio(timing) if timing.implementation != OURS else Cell("1"),
                    *_cells(*made, "-" if rate is None else text.significant(rate), percent),
                    Cell(str(timing.rounds)),
                ]
            )
    columns = [
        "op",
        "shape",
        "dtype",
        "mode",
        "implementation",
        "median (p20 to p80)",
        "time / ours",
        *(["made", "GB/s", "of copy"] if counts_bytes else ["useful GF/s", "of GEMM"]),
        "rounds",
    ]
    return Table(columns, rows, 5, folded=True)


def _backward(run: Results) -> Section | None:
    """What a backward adds, of operators whose summary shows the forward."""
    rows = []
    for op, part in _by_op(run).items():
        for result in part.cases if headline(op) == FORWARD else ():
            forward, both = _timings(result, FORWARD), _timings(result, BOTH)
            for name, timing in both.items():
                if name not in forward:
                    continue
                alone = timing.median - forward[name].median
                rows.append(
                    [
                        Cell(op),
                        _shape(result, run),
                        *_cells(result.case.kind, label(op, name)),
                        *map(Cell, map(text.seconds, (forward[name].median, timing.median))),
                        Cell(f"{text.significant(alone / forward[name].median)}x"),
                        _ratio(timing) if name != OURS else Cell("1"),
                    ]
                )
    if not rows:
        return None
    words = [
        "Where the inputs take a gradient. Backward / forward is the difference of the two medians "
        "over the first: below 1 a backward costs less than a forward.",
    ]
    columns = ["op", "shape", "dtype", "implementation", "forward", "forward + backward"]
    columns += ["backward / forward", "forward + backward, time / ours"]
    return Section("Backward", words, [], [Table(columns, rows, 4)])


def _memory(run: Results) -> Section | None:
    tables = [table for part in _parts(run) if (table := _memory_table(part))]
    if not tables:
        return None
    methods = {m.method for result in run.cases for m in result.memory if m.method}
    words = [
        "Extra memory at the peak of one forward + backward, above the inputs and the gradients "
        "that every implementation returns. Each figure comes from a process of its own, "
        f"measured as {' or '.join(sorted(methods)) or 'nothing: no measurement succeeded'}; "
        "differences below about 1 MiB are noise. The seconds are one warm call there: for "
        "orientation only.",
        *(
            f"{op}: above the result, too; of the forward alone where no input takes a gradient."
            for op in _by_op(run)
            if headline(op) == FORWARD
        ),
    ]
    caption = "peak extra memory of forward + backward against the number of rows, log-log."
    drawn = _plots(run, plots.memory, caption)
    folded = [replace(table, folded=bool(drawn)) for table in tables]
    return Section("Memory", words, drawn, folded)


def _memory_table(run: Results) -> Table | None:
    rows = []
    for result in run.cases:
        reasons = [(s.implementation, s.reason) for s in result.skipped if result.case.memory_only]
        for memory in result.memory:
            peak, percent, took = memory.peak_extra_bytes, memory.percent_of_eager, memory.seconds
            rows.append(
                [
                    Cell(result.case.op),
                    _shape(result, run),
                    *_cells(result.case.kind, label(result.case.op, memory.implementation)),
                    Cell("-" if peak is None else text.size(peak)),
                    Cell("-" if percent is None else f"{text.significant(percent)} %"),
                    Cell("-" if took is None else text.seconds(took)),
                    Cell(memory.reason or ""),
                ]
            )
        for name, reason in reasons:
            rows.append(
                [
                    Cell(result.case.op),
                    _shape(result, run),
                    *_cells(result.case.kind, label(result.case.op, name), "-", "-", "-", reason),
                ]
            )
    if not rows:
        return None
    eager = " or ".join(dict.fromkeys(f"{eager_word(op)}'s" for op in _by_op(run)))
    columns = [
        "op",
        "shape",
        "dtype",
        "implementation",
        "peak extra",
        f"of {eager}",
        "one call",
        "why not",
    ]
    return Table(columns, rows, 4)


def _errors(run: Results) -> Section | None:
    rows = [
        [
            Cell(result.case.op),
            _shape(result, run),
            *_cells(result.case.kind, error.inputs, label(result.case.op, error.implementation)),
            *_cells(text.error(error.loss), text.error(error.gradient)),
        ]
        for result in run.cases
        for error in result.errors
    ]
    if not rows:
        return None
    known = operators()
    words = [
        "Against the same loss in float64 on the inputs as rounded to the dtype: relative error "
        "of the loss, and relative Frobenius error of all gradients together.",
        *(
            f"{op}: {known[op].input_note}."
            for op in _by_op(run)
            if op in known and not known[op].random
        ),
    ]
    columns = ["op", "shape", "dtype", "inputs", "implementation", "loss", "gradient"]
    caption = "error against float64; filled: the first kind of inputs above, hollow: the second."
    table = Table(columns, rows, 5, folded=True)
    return Section("Error against float64", words, _plots(run, plots.errors, caption), [table])


def _exactness(run: Results) -> Section | None:
    """A table for each case that has one: stages down, implementations across."""
    tables = []
    words = [
        "Everybody is given the same draws. The largest absolute difference, of pixels in 0 ... 1 "
        "before normalisation, from float64."
    ]
    known = operators()
    for op, part in _by_op(run).items():
        found = [result for result in part.cases if result.exactness]
        if found and op in known:
            words.append(f"{op}: {known[op].input_note}.")
        for result in found:
            by_place = {(one.stage, one.implementation): one for one in result.exactness}
            names = list(dict.fromkeys(one.implementation for one in result.exactness))
            rows = []
            for stage in dict.fromkeys(one.stage for one in result.exactness):
                cells = [by_place.get((stage, name)) for name in names]
                rows.append(
                    [
                        *_cells(op, result.case.shape_text, stage),
                        *(
                            Cell("-") if c is None or c.error is None else Cell(text.error(c.error))
                            for c in cells
                        ),
                    ]
                )
            tables.append(Table(["op", "shape", "stage", *(label(op, n) for n in names)], rows, 3))
            reasons = {(one.implementation, one.reason) for one in result.exactness if one.reason}
            words += [f"{label(op, name)}: {reason}." for name, reason in sorted(reasons)]
    if not tables:
        return None
    return Section("Exactness", list(dict.fromkeys(words)), [], tables)


def _copies(run: Results) -> Section | None:
    if not run.copies:
        return None
    known = operators()
    words = [
        f"{op}: {known[op].work_note}"
        for op, p in _by_op(run).items()
        if op in known and _counts_bytes(p)
    ]
    words.append(copying.NOTE)
    rows = [
        _cells(text.size(rate.moved), text.significant(rate.gbytes_per_second))
        for rate in run.copies
    ]
    table = Table(["read and written", "best copy GB/s"], rows, 1)
    return Section("What GB/s and percent of copy mean", words, [], [table])


def _rates(run: Results) -> Section | None:
    if not run.gemm:
        return None
    known = operators()
    words = [
        f"{op}: {known[op].work_note}"
        for op, part in _by_op(run).items()
        if op in known and not _counts_bytes(part)
    ]
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
    rows = []
    for op, part in _by_op(run).items():
        reasons: dict[tuple[str, str], list[str]] = {}
        for result in part.cases:
            for skip in result.skipped:
                where = f"{result.case.shape_text} {result.case.kind}"
                reasons.setdefault((skip.implementation, skip.reason), []).append(where)
        for (name, reason), cases in reasons.items():
            where = "all" if len(cases) == len(part.cases) else ", ".join(cases)
            rows.append(_cells(op, label(op, name), reason, where))
    if not rows:
        return None
    columns = ["op", "implementation", "reason", "cases"]
    return Section("Left out", [], [], [Table(columns, rows, 4)])


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
    known = operators()
    extras = dict.fromkeys(e for op in _by_op(run) if op in known for e in known[op].extras)
    wanted = ",".join(extras) or "bench"
    code = f"pip install -e '.[{wanted}]'\n{variables}{run.command}\npython -m benchmarks report"
    return Section(
        "How to reproduce", ["From a checkout, on an otherwise idle machine:"], code=code
    )
