"""What a report says of a run: every section in its order."""

from __future__ import annotations

from benchmarks.report.backward import backward_section
from benchmarks.report.errors import errors_section
from benchmarks.report.exactness import exactness_section
from benchmarks.report.memory import memory_section
from benchmarks.report.parts import Document
from benchmarks.report.products import products_section
from benchmarks.report.provenance import (
    environment_section,
    gpu_section,
    reproduce_section,
    skipped_section,
)
from benchmarks.report.rates import copies_section, rates_section
from benchmarks.report.summary import summary_section
from benchmarks.report.tiles import all_tiles
from benchmarks.report.time import time_section
from benchmarks.results import Results


def document(run: Results) -> Document:
    """Everything the report says about one run."""
    sections = [
        summary_section(run),
        time_section(run),
        backward_section(run),
        memory_section(run),
        errors_section(run),
        exactness_section(run),
        rates_section(run),
        products_section(run),
        copies_section(run),
        gpu_section(run),
        skipped_section(run),
        environment_section(run),
        reproduce_section(run),
    ]
    env = run.environment
    where = f"{env.gpu or env.cpu}, {env.threads} threads, torch {env.packages['torch']}"
    kind = "quick run, few rounds" if run.quick else "full run"
    return Document(
        title=run.label,
        subtitle=f"{where}, {env.started[:10]}, {kind}",
        tiles=all_tiles(run),
        sections=[section for section in sections if section is not None],
    )
