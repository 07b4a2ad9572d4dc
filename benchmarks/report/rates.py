"""The sections of what rates are held against."""

from __future__ import annotations

from benchmarks import copying, gemm, text
from benchmarks.registry import operators
from benchmarks.report.parts import Section, Table
from benchmarks.report.shared import by_op, cells, has_bytes
from benchmarks.results import Results


def rates_section(run: Results) -> Section | None:
    """The rates of matrix products, and how flops are counted."""
    if not run.gemm:
        return None
    known = operators()
    words = [
        f"{op}: {known[op].work_note}"
        for op, part in by_op(run).items()
        if op in known and not has_bytes(part)
    ]
    words.append(gemm.NOTE)
    rows = [cells(rate.kind, text.significant(rate.gflops), rate.shape) for rate in run.gemm]
    table = Table(["dtype", "best torch.mm GF/s", "reached at"], rows)
    return Section("What GF/s and percent of GEMM mean", words, [], [table])


def copies_section(run: Results) -> Section | None:
    """The rates of copies, and how bytes are counted."""
    if not run.copies:
        return None
    known = operators()
    words = [
        f"{op}: {known[op].work_note}"
        for op, p in by_op(run).items()
        if op in known and has_bytes(p)
    ]
    words.append(copying.NOTE)
    rows = [
        cells(text.size(rate.moved), text.significant(rate.gbytes_per_second))
        for rate in run.copies
    ]
    table = Table(["read and written", "best copy GB/s"], rows, 1)
    return Section("What GB/s and percent of copy mean", words, [], [table])
